#include "letter.h"

#include <string.h>

/* Whether what comes is just one entry; if not, the reader is anywhere. */
static int read_plain(Reader *reader, Letter *letter)
{
    uint64_t fields, runs, of_run;
    Text user, frame;
    if (!read_array(reader, &fields) || fields < 3 || !read_str(reader, &user) ||
        !read_array(reader, &letter->to_come))
        return 0;
    letter->sessions = *reader;
    if (!skip(reader, letter->to_come) || !read_array(reader, &runs) || runs != 1 || !read_array(reader, &of_run) ||
        of_run < 5)
        return 0;
    if (!read_str(reader, &letter->log_name) || !read_whole(reader, &letter->entry.first) ||
        !read_whole(reader, &letter->entry.last) || !read_whole(reader, &letter->ts) || !read_bin(reader, &frame))
        return 0;
    letter->entry.bytes = frame.at;
    letter->entry.size = (Py_ssize_t)frame.size;
    return skip(reader, of_run - 5) && skip(reader, fields - 3); /* what later versions add */
}

int read_letter(Reader *reader, Letter *letter)
{
    const Reader from = *reader;
    memset(letter, 0, sizeof *letter);
    letter->plain = read_plain(reader, letter);
    if (!letter->plain) {
        letter->to_come = 0;
        *reader = from;
        if (!skip(reader, 1))
            return 0;
    }
    letter->packed = (Text){(const char *)from.at, (size_t)(reader->at - from.at)};
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
