/* Deliveries, packed as they come: most are one entry for one or two sessions, and become no objects. */

#include "passing.h"

#include <stddef.h>
#include <string.h>

#include "msgpack.h"

enum { MOST = 8 }; /* sessions of a delivery that is taken here; one for more goes in pieces, so that others may run */

typedef struct {
    Text packed;
    Entry entry;    /* not framed yet */
    long long ts;   /* when it was appended, ms */
    PyObject *log;  /* NULL: it is not just one entry for few */
    int from, upto; /* its items */
} Letter;

typedef struct {
    PyObject *logs;                /* {log: readers} */
    PyObject *log;                 /* the log that was asked for last */
    Readers *readers;              /* its readers, if it has any */
    char *framed;                  /* an entry as a frame, with `room` for that */
    size_t room;
    PyObject *passed;              /* [(log, ts, sessions)] */
    PyObject *counted_log;         /* `counted` sessions were sent entries of this log and time, not in `passed` yet */
    long long counted_ts;
    Py_ssize_t counted;
    PyObject *packed, *left;       /* deliveries that are for Python, and the sessions of each that are left; None: all */
    int letter_count, item_count;
    Letter letters[BLOCK];
    Item items[BLOCK * MOST];
} Sorting;

/* 1: `log` has readers; 0: it has none here, or is no name; -1: exception. */
static int turn_to(Sorting *sorting, const Text *log)
{
    if (sorting->log) {
        Py_ssize_t size;
        const char *known = PyUnicode_AsUTF8AndSize(sorting->log, &size);
        if (!known)
            return -1;
        if ((size_t)size == log->size && !memcmp(known, log->at, log->size))
            return sorting->readers != NULL;
    }
    PyObject *name = PyUnicode_DecodeUTF8(log->at, (Py_ssize_t)log->size, NULL);
    if (!name) {
        PyErr_Clear();
        return 0;
    }
    PyObject *readers = PyDict_GetItemWithError(sorting->logs, name);
    Py_XSETREF(sorting->log, name);
    if (readers && !Py_IS_TYPE(readers, &ReadersType)) {
        PyErr_Format(PyExc_TypeError, "Readers, not %s", Py_TYPE(readers)->tp_name);
        readers = NULL;
    }
    Py_XSETREF(sorting->readers, (Readers *)Py_XNewRef(readers));
    return readers ? 1 : PyErr_Occurred() ? -1 : 0;
}

/* 1: it is just one entry for few sessions, which `sessions` reads; 0: it is something else. */
static int read_letter(Reader *reader, Letter *letter, Text *log, Reader *sessions, uint64_t *count)
{
    uint64_t fields, runs, of_run;
    Text user, frame;
    if (!read_array(reader, &fields) || fields < 3 || !read_str(reader, &user) || !read_array(reader, count) ||
        *count > MOST)
        return 0;
    *sessions = *reader;
    if (!skip(reader, *count) || !read_array(reader, &runs) || runs != 1 || !read_array(reader, &of_run) || of_run < 5)
        return 0;
    if (!read_str(reader, log) || !read_whole(reader, &letter->entry.first) ||
        !read_whole(reader, &letter->entry.last) || !read_whole(reader, &letter->ts) || !read_bin(reader, &frame))
        return 0;
    letter->entry.bytes = frame.at;
    letter->entry.size = (Py_ssize_t)frame.size;
    return skip(reader, of_run - 5) && skip(reader, fields - 3); /* what later versions add */
}

/* Begin to look the sessions of a delivery up. 0: some session has no name. */
static int seek_all(Sorting *sorting, Reader *sessions, uint64_t count)
{
    while (count--) {
        Text name;
        if (!read_str(sessions, &name))
            return 0;
        seek(&sorting->items[sorting->item_count++], sorting->readers, name.at, name.size);
    }
    return 1;
}

/* Read the next delivery into the block. 1: done; 0: it is cut off; -1: exception. */
static int take_letter(Sorting *sorting, Reader *reader)
{
    Letter *letter = &sorting->letters[sorting->letter_count];
    Reader from = *reader, sessions;
    Text log;
    uint64_t count;
    letter->log = NULL;
    letter->from = letter->upto = sorting->item_count;
    if (read_letter(reader, letter, &log, &sessions, &count)) {
        int plain = turn_to(sorting, &log);
        if (plain < 0)
            return -1;
        if (plain && seek_all(sorting, &sessions, count)) {
            letter->log = Py_NewRef(sorting->log);
            letter->upto = sorting->item_count;
        } else {
            sorting->item_count = letter->from;
        }
    } else {
        *reader = from;
        if (!skip(reader, 1))
            return 0;
    }
    letter->packed = (Text){(const char *)from.at, (size_t)(reader->at - from.at)};
    sorting->letter_count++;
    return 1;
}

/* Make the entry the bytes of one unmasked text frame, as `gateway.framing` does. */
static int frame(Sorting *sorting, Entry *entry)
{
    size_t size = (size_t)entry->size, head = size < 126 ? 2 : size < 65536 ? 4 : 10;
    if (sorting->room < head + size) {
        char *more = PyMem_Realloc(sorting->framed, 2 * (head + size));
        if (!more) {
            PyErr_NoMemory();
            return -1;
        }
        sorting->framed = more;
        sorting->room = 2 * (head + size);
    }
    unsigned char *to = (unsigned char *)sorting->framed;
    to[0] = 0x81;
    to[1] = (unsigned char)(head == 2 ? size : head == 4 ? 126 : 127);
    for (size_t at = 2; at < head; at++)
        to[at] = (unsigned char)(size >> 8 * (head - 1 - at));
    memcpy(to + head, entry->bytes, size);
    entry->bytes = sorting->framed;
    entry->size = (Py_ssize_t)(head + size);
    return 0;
}

static int note_counted(Sorting *sorting)
{
    if (!sorting->counted)
        return 0;
    PyObject *row = Py_BuildValue("OLn", sorting->counted_log, sorting->counted_ts, sorting->counted);
    int failed = !row || PyList_Append(sorting->passed, row);
    Py_XDECREF(row);
    sorting->counted = 0;
    return failed ? -1 : 0;
}

static int count_passed(Sorting *sorting, const Letter *letter, Py_ssize_t sessions)
{
    if (!sessions)
        return 0;
    if ((letter->log != sorting->counted_log || letter->ts != sorting->counted_ts) && note_counted(sorting))
        return -1;
    Py_XSETREF(sorting->counted_log, Py_NewRef(letter->log));
    sorting->counted_ts = letter->ts;
    sorting->counted += sessions;
    return 0;
}

/* Leave a delivery to Python: for all of its sessions, or for those that are left. */
static int leave(Sorting *sorting, const Letter *letter, PyObject *left)
{
    PyObject *packed = PyBytes_FromStringAndSize(letter->packed.at, (Py_ssize_t)letter->packed.size);
    int failed = !packed || PyList_Append(sorting->packed, packed) || PyList_Append(sorting->left, left);
    Py_XDECREF(packed);
    return failed ? -1 : 0;
}

/* Add a session to those that are left. 1: done; 0: it has no name; -1: exception. */
static int note_left(PyObject *left, const Item *item)
{
    PyObject *session = PyUnicode_DecodeUTF8(item->at, (Py_ssize_t)item->size, NULL);
    if (!session) {
        PyErr_Clear();
        return 0;
    }
    int failed = PyList_Append(left, session);
    Py_DECREF(session);
    return failed ? -1 : 1;
}

/* 1: what passes has passed, and the sessions that are left are noted; 0: one of them has no name; -1: exception. */
static int pass_letter(Sorting *sorting, Letter *letter, PyObject *left)
{
    if (frame(sorting, &letter->entry))
        return -1;
    Py_ssize_t passed = 0;
    int named = 1;
    for (int at = letter->from; at < letter->upto; at++) {
        int done = pass(&sorting->items[at], &letter->entry);
        passed += done > 0;
        if (!done) {
            done = note_left(left, &sorting->items[at]);
            named = named && done;
        }
        if (done < 0)
            return -1;
    }
    return count_passed(sorting, letter, passed) ? -1 : named;
}

static int send_letter(Sorting *sorting, Letter *letter)
{
    if (!letter->log)
        return leave(sorting, letter, Py_None);
    PyObject *left = PyList_New(0);
    int named = left ? pass_letter(sorting, letter, left) : -1, failed = named < 0;
    if (!failed && !named)
        failed = leave(sorting, letter, Py_None); /* `decode` says what is wrong with it */
    else if (!failed && PyList_GET_SIZE(left))
        failed = leave(sorting, letter, left);
    Py_XDECREF(left);
    return failed ? -1 : 0;
}

static void empty_block(Sorting *sorting)
{
    drop(sorting->items, sorting->item_count);
    for (int at = 0; at < sorting->letter_count; at++)
        Py_XDECREF(sorting->letters[at].log);
    sorting->letter_count = sorting->item_count = 0;
}

/* 1: all deliveries are sent or left to Python; 0: they are cut off; -1: exception. */
static int sort_all(Sorting *sorting, Reader *reader)
{
    uint64_t count = 0;
    int taken = read_array(reader, &count);
    while (count && taken > 0) {
        while (count && taken > 0 && sorting->letter_count < BLOCK) {
            taken = take_letter(sorting, reader);
            count--;
        }
        look_up(sorting->items, sorting->item_count);
        for (int at = 0; at < sorting->letter_count && taken >= 0; at++)
            if (send_letter(sorting, &sorting->letters[at]))
                taken = -1;
        empty_block(sorting);
    }
    return taken;
}

/* [(delivery, the sessions that are left)] of what is for Python. */
static PyObject *decoded(Sorting *sorting, PyObject *decode)
{
    Py_ssize_t count = PyList_GET_SIZE(sorting->left);
    PyObject *others = PyList_New(0), *nothing = NULL, *packed = NULL, *deliveries = NULL;
    if (!others || !count)
        return others;
    const unsigned char head[] = {0xdd, (unsigned char)(count >> 24), (unsigned char)(count >> 16),
                                  (unsigned char)(count >> 8), (unsigned char)count};
    PyObject *array = PyBytes_FromStringAndSize((const char *)head, sizeof head);
    int failed = !array || PyList_Insert(sorting->packed, 0, array);
    if (!failed && (nothing = PyBytes_FromStringAndSize("", 0)))
        packed = PyObject_CallMethod(nothing, "join", "O", sorting->packed);
    if (packed)
        deliveries = PyObject_CallOneArg(decode, packed);
    failed = !deliveries;
    if (deliveries && (!PyList_Check(deliveries) || PyList_GET_SIZE(deliveries) != count)) {
        PyErr_SetString(PyExc_TypeError, "a list of deliveries is what `decode` returns");
        failed = 1;
    }
    for (Py_ssize_t at = 0; at < count && !failed; at++) {
        PyObject *pair = PyTuple_Pack(2, PyList_GET_ITEM(deliveries, at), PyList_GET_ITEM(sorting->left, at));
        failed = !pair || PyList_Append(others, pair);
        Py_XDECREF(pair);
    }
    Py_XDECREF(array);
    Py_XDECREF(nothing);
    Py_XDECREF(packed);
    Py_XDECREF(deliveries);
    if (failed)
        Py_CLEAR(others);
    return others;
}

/* What is cut off, `decode` has to complain about. */
static void refuse(const Py_buffer *deliveries, PyObject *decode)
{
    PyObject *refused = PyObject_CallFunction(decode, "y#", deliveries->buf, deliveries->len);
    if (refused)
        PyErr_SetString(PyExc_ValueError, "the deliveries are cut off");
    Py_XDECREF(refused);
}

/* As `sort_all`, of one array of deliveries; what is cut off is refused. */
static int sort_part(Sorting *sorting, PyObject *part, PyObject *decode)
{
    Py_buffer deliveries;
    if (PyObject_GetBuffer(part, &deliveries, PyBUF_SIMPLE))
        return -1;
    Reader reader = {deliveries.buf, (const unsigned char *)deliveries.buf + deliveries.len};
    int sorted = sort_all(sorting, &reader);
    if (!sorted)
        refuse(&deliveries, decode);
    PyBuffer_Release(&deliveries);
    return sorted > 0 ? 0 : -1;
}

PyObject *pass_all(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *parts, *decode, *others = NULL, *result = NULL;
    Sorting sorting;
    memset(&sorting, 0, offsetof(Sorting, letters));
    if (!PyArg_ParseTuple(args, "O!O!O", &PyList_Type, &parts, &PyDict_Type, &sorting.logs, &decode))
        return NULL;
    sorting.passed = PyList_New(0);
    sorting.packed = PyList_New(0);
    sorting.left = PyList_New(0);
    int failed = !sorting.passed || !sorting.packed || !sorting.left;
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(parts) && !failed; at++)
        failed = sort_part(&sorting, PyList_GET_ITEM(parts, at), decode);
    if (!failed && !note_counted(&sorting) && (others = decoded(&sorting, decode)))
        result = PyTuple_Pack(2, others, sorting.passed);
    PyObject *owned[] = {sorting.log,    (PyObject *)sorting.readers, sorting.counted_log, sorting.passed,
                         sorting.packed, sorting.left,                others};
    for (size_t at = 0; at < sizeof owned / sizeof *owned; at++)
        Py_XDECREF(owned[at]);
    PyMem_Free(sorting.framed);
    return result;
}
