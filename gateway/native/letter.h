/* A delivery as it comes, packed: mostly one entry for one or two sessions, or for very many. */

#ifndef TOCSIN_LETTER_H
#define TOCSIN_LETTER_H

#include "msgpack.h"
#include "passing.h"

typedef struct {
    Text packed;      /* all of it */
    Entry entry;      /* not framed */
    long long ts;     /* when it was appended, ms */
    Text log_name;
    Cursor sessions;  /* those that are not looked up yet */
    uint64_t to_come; /* how many these are */
    int plain;        /* it is just one entry; else nothing but `packed` is known */
    int unreadable;   /* some session has no name */
    PyObject *log;
    Readers *readers;
    PyObject *left;   /* the sessions that it did not pass, NULL: none yet */
    int from, upto;   /* those that are looked up, in the block */
} Letter;

/* Read the next delivery; 0: it is cut off. */
int read_letter(Cursor *cursor, Letter *letter);

/* Let go of what it keeps. */
void drop_letter(Letter *letter);

/* Make an entry the bytes of one unmasked text frame, as `gateway.framing` does, in memory that grows. -1: exception. */
int frame(Entry *entry, char **memory, size_t *room);

#endif
