#include "letter.h"

#include <string.h>

#define MOST_SEQ ((1LL << 53) - 1) /* as `schemas.records.Seq` */

/* Whether what comes is just one entry; if not, the cursor is anywhere. */
static int read_plain(Cursor *cursor, Letter *letter)
{
    uint64_t fields, runs, of_run;
    Text user, frame;
    if (!read_array(cursor, &fields) || fields < 3 || !read_str(cursor, &user) ||
        !read_array(cursor, &letter->to_come))
        return 0;
    letter->sessions = *cursor;
    if (!skip(cursor, letter->to_come) || !read_array(cursor, &runs) || runs != 1 || !read_array(cursor, &of_run) ||
        of_run < 5)
        return 0;
    if (!read_str(cursor, &letter->log_name) || !read_whole(cursor, &letter->entry.first) ||
        !read_whole(cursor, &letter->entry.last) || !read_whole(cursor, &letter->ts) || !read_bin(cursor, &frame))
        return 0;
    if (letter->entry.first > MOST_SEQ || letter->entry.last > MOST_SEQ)
        return 0; /* `decode` refuses it */
    letter->entry.bytes = frame.at;
    letter->entry.size = (Py_ssize_t)frame.size;
    return skip(cursor, of_run - 5) && skip(cursor, fields - 3); /* what later versions add */
}

int read_letter(Cursor *cursor, Letter *letter)
{
    const Cursor from = *cursor;
    memset(letter, 0, sizeof *letter);
    letter->plain = read_plain(cursor, letter);
    if (!letter->plain) {
        letter->to_come = 0;
        *cursor = from;
        if (!skip(cursor, 1))
            return 0;
    }
    letter->packed = (Text){(const char *)from.at, (size_t)(cursor->at - from.at)};
    return 1;
}

void drop_letter(Letter *letter)
{
    Py_CLEAR(letter->log);
    Py_CLEAR(letter->readers);
    Py_CLEAR(letter->left);
}

int frame(Entry *entry, char **memory, size_t *room)
{
    size_t size = (size_t)entry->size, head = size < 126 ? 2 : size < 65536 ? 4 : 10;
    if (*room < head + size) {
        char *more = PyMem_Realloc(*memory, 2 * (head + size));
        if (!more) {
            PyErr_NoMemory();
            return -1;
        }
        *memory = more;
        *room = 2 * (head + size);
    }
    unsigned char *to = (unsigned char *)*memory;
    to[0] = 0x81;
    to[1] = (unsigned char)(head == 2 ? size : head == 4 ? 126 : 127);
    for (size_t at = 2; at < head; at++)
        to[at] = (unsigned char)(size >> 8 * (head - 1 - at));
    memcpy(to + head, entry->bytes, size);
    entry->bytes = *memory;
    entry->size = (Py_ssize_t)(head + size);
    return 0;
}
