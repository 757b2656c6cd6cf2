/* The way of nearly all deliveries, in C: what `passing_pure.py` does, and no more.
 *
 * With thousands of sessions the memory of each is cold, and a system call apiece is to be paid anyway; what this saves
 * is the interpreter's and the transport's share, and it has the memory of the sessions of a block on its way before
 * the first of them is looked at. A socket is written to directly only while its transport holds nothing, so that bytes
 * keep their order; what it does not take at once goes to the transport, which waits for it.
 */

#ifndef TOCSIN_PASSING_H
#define TOCSIN_PASSING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>

enum { BLOCK = 32 }; /* sessions that are looked up ahead */

typedef struct {
    PyObject_HEAD
    PyObject *write;   /* the transport's own */
    PyObject *waiting; /* how many bytes the transport holds */
    PyObject *failure; /* what `write` or `waiting` raised: it is raised again from then on */
    int fd;            /* -1: nothing goes past the transport */
    char held;         /* the transport was given something, or may have been, and has not been seen empty since */
} Way;

typedef struct {
    PyObject_HEAD
    long long expected, head, sent, next;
    PyObject *way; /* a Way, or None */
} Position;

typedef struct {
    uint64_t hash;
    PyObject *session;  /* its id, NULL: the slot is empty */
    Position *position;
} Slot;

typedef struct {
    PyObject_HEAD
    Slot *slots; /* NULL: none yet */
    size_t mask; /* how many slots there are, a power of two, less one */
    Py_ssize_t used;
} Readers;

extern PyTypeObject WayType, PositionType, ReadersType, TurnsType;

/* An entry on its way to sessions. */
typedef struct {
    long long first, last;
    const char *bytes; /* framed */
    Py_ssize_t size;
} Entry;

/* One of these sessions. */
typedef struct {
    const char *at; /* its id */
    size_t size;
    uint64_t hash;
    const Readers *readers;
    Position *position; /* NULL: the session does not read the log here */
} Item;

/* Hand bytes to the network, past the transport where that is possible. -1: exception. */
int send_on(Way *way, const char *bytes, Py_ssize_t size);

/* Begin to look a session up: ask for the memory where it is. */
void seek(Item *item, const Readers *readers, const char *at, size_t size);

/* Look up those that were begun; nothing may have changed their readers since. Then the items keep the positions. */
void look_up(Item *items, int count);

/* Send an entry to a session that waits for just this one. 1: it has passed; 0: it is for the session to decide, also
 * where the way has failed; -1: exception. */
int pass(const Item *item, const Entry *entry);

/* Let go of what items keep. */
void drop(const Item *items, int count);

/* The function of the module, see `passing_pure.py`. */
PyObject *pass_all(PyObject *module, PyObject *args);

#endif
