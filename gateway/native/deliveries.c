/* The deliveries of a message, a turn at a time: of those that are just one entry no objects are made. */

#include "letter.h"

#include <string.h>

typedef struct {
    PyObject_HEAD
    PyObject *parts, *logs, *decode; /* (deliveries, ...), {log: readers}, what makes objects of deliveries */
    Py_ssize_t most;                 /* sessions of a turn, about */
    int over, running;               /* there are no more turns; one is being taken */
    Py_ssize_t part;                 /* how many parts are open */
    Py_buffer *buffers;              /* theirs: what a block holds points into them, into the last ones mostly */
    Cursor cursor;                   /* what is not read of the last one */
    uint64_t to_come;                /* how many deliveries that is */
    PyObject *log;                   /* the log that was asked for last in this turn */
    Readers *readers;                /* its readers, if it has any */
    char *framed;                    /* an entry as a frame, with `room` for that */
    size_t room;
    PyObject *passed;                /* [(log, ts, sessions)] of this turn */
    PyObject *counted_log;           /* `counted` sessions were sent entries of this log and time, not in `passed` yet */
    long long counted_ts;
    Py_ssize_t counted;
    PyObject *packed, *left;         /* deliveries of this turn that are for Python, and their sessions; None: all */
    int letter_count, item_count;    /* of the block; the last letter may have sessions to come in the next one */
    Letter letters[BLOCK];
    Item items[BLOCK];
} Turns;

/* What has passed, for the metrics */

static int note_counted(Turns *turns)
{
    if (!turns->counted)
        return 0;
    PyObject *row = Py_BuildValue("OLn", turns->counted_log, turns->counted_ts, turns->counted);
    int failed = !row || PyList_Append(turns->passed, row);
    Py_XDECREF(row);
    turns->counted = 0;
    return failed ? -1 : 0;
}

static int count_passed(Turns *turns, const Letter *letter, Py_ssize_t sessions)
{
    if (!sessions)
        return 0;
    if ((letter->log != turns->counted_log || letter->ts != turns->counted_ts) && note_counted(turns))
        return -1;
    Py_XSETREF(turns->counted_log, Py_NewRef(letter->log));
    turns->counted_ts = letter->ts;
    turns->counted += sessions;
    return 0;
}

/* What is for Python */

static int leave(Turns *turns, const Letter *letter, PyObject *left)
{
    PyObject *packed = PyBytes_FromStringAndSize(letter->packed.at, (Py_ssize_t)letter->packed.size);
    int failed = !packed || PyList_Append(turns->packed, packed) || PyList_Append(turns->left, left);
    Py_XDECREF(packed);
    return failed ? -1 : 0;
}

static int note_left(Letter *letter, const Item *item)
{
    PyObject *session = PyUnicode_DecodeUTF8(item->at, (Py_ssize_t)item->size, NULL);
    if (!session) {
        PyErr_Clear();
        letter->unreadable = 1;
        return 0;
    }
    if (!letter->left)
        letter->left = PyList_New(0);
    int failed = !letter->left || PyList_Append(letter->left, session);
    Py_DECREF(session);
    return failed ? -1 : 0;
}

/* [(delivery, the sessions that are left)] */
static PyObject *pairs(PyObject *deliveries, PyObject *left)
{
    Py_ssize_t count = PyList_GET_SIZE(left);
    if (!PyList_Check(deliveries) || PyList_GET_SIZE(deliveries) != count)
        return PyErr_Format(PyExc_TypeError, "`decode` returns a list of as many deliveries as there are");
    PyObject *found = PyList_New(count);
    for (Py_ssize_t at = 0; found && at < count; at++) {
        PyObject *pair = PyTuple_Pack(2, PyList_GET_ITEM(deliveries, at), PyList_GET_ITEM(left, at));
        if (pair)
            PyList_SET_ITEM(found, at, pair);
        else
            Py_CLEAR(found);
    }
    return found;
}

static PyObject *decoded(Turns *turns)
{
    Py_ssize_t count = PyList_GET_SIZE(turns->left);
    if (!count)
        return PyList_New(0);
    const unsigned char array[] = {0xdd, (unsigned char)(count >> 24), (unsigned char)(count >> 16),
                                   (unsigned char)(count >> 8), (unsigned char)count};
    Py_ssize_t size = sizeof array;
    for (Py_ssize_t at = 0; at < count; at++)
        size += PyBytes_GET_SIZE(PyList_GET_ITEM(turns->packed, at));
    PyObject *joined = PyBytes_FromStringAndSize(NULL, size);
    char *to = joined ? PyBytes_AS_STRING(joined) : NULL;
    if (to)
        to = (char *)memcpy(to, array, sizeof array) + sizeof array;
    for (Py_ssize_t at = 0; to && at < count; at++) {
        PyObject *packed = PyList_GET_ITEM(turns->packed, at);
        to = (char *)memcpy(to, PyBytes_AS_STRING(packed), (size_t)PyBytes_GET_SIZE(packed)) + PyBytes_GET_SIZE(packed);
    }
    PyObject *deliveries = joined ? PyObject_CallOneArg(turns->decode, joined) : NULL;
    PyObject *found = deliveries ? pairs(deliveries, turns->left) : NULL;
    Py_XDECREF(joined);
    Py_XDECREF(deliveries);
    return found;
}

/* Filling a block */

/* 1: `name` has readers; 0: it has none here, or is no name; -1: exception. */
static int turn_to(Turns *turns, const Text *name)
{
    if (turns->log) {
        Py_ssize_t size;
        const char *known = PyUnicode_AsUTF8AndSize(turns->log, &size);
        if (!known)
            return -1;
        if ((size_t)size == name->size && !memcmp(known, name->at, name->size))
            return turns->readers != NULL;
    }
    PyObject *log = PyUnicode_DecodeUTF8(name->at, (Py_ssize_t)name->size, NULL);
    if (!log) {
        PyErr_Clear();
        return 0;
    }
    PyObject *readers = PyDict_GetItemWithError(turns->logs, log);
    Py_XSETREF(turns->log, log);
    if (readers && !Py_IS_TYPE(readers, &ReadersType)) {
        PyErr_Format(PyExc_TypeError, "Readers, not %s", Py_TYPE(readers)->tp_name);
        readers = NULL;
    }
    Py_XSETREF(turns->readers, (Readers *)Py_XNewRef(readers));
    return readers ? 1 : PyErr_Occurred() ? -1 : 0;
}

/* Deliveries that are cut off, `decode` complains about. */
static int refuse(Turns *turns)
{
    const Py_buffer *part = &turns->buffers[turns->part - 1];
    PyObject *refused = PyObject_CallFunction(turns->decode, "y#", part->buf, part->len);
    if (refused)
        PyErr_SetString(PyExc_ValueError, "the deliveries are cut off");
    Py_XDECREF(refused);
    return -1;
}

/* 1: there is a delivery to read; 0: there is none; -1: exception. */
static int turn_page(Turns *turns)
{
    while (!turns->to_come) {
        if (turns->part == PyTuple_GET_SIZE(turns->parts))
            return 0;
        Py_buffer *part = &turns->buffers[turns->part];
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(turns->parts, turns->part), part, PyBUF_SIMPLE))
            return -1;
        turns->part++;
        turns->cursor = (Cursor){part->buf, (const unsigned char *)part->buf + part->len};
        if (!read_array(&turns->cursor, &turns->to_come))
            return refuse(turns);
    }
    return 1;
}

/* 1: the block has one delivery more; 0: there is none; -1: exception. */
static int take_letter(Turns *turns)
{
    Letter *letter = &turns->letters[turns->letter_count];
    int found = turn_page(turns);
    if (found <= 0)
        return found;
    if (!read_letter(&turns->cursor, letter))
        return refuse(turns);
    turns->to_come--;
    letter->from = letter->upto = turns->item_count;
    if (letter->plain && (found = turn_to(turns, &letter->log_name)) < 0)
        return -1;
    if (letter->plain && found) {
        letter->log = Py_NewRef(turns->log);
        letter->readers = (Readers *)Py_NewRef((PyObject *)turns->readers);
    } else {
        letter->plain = 0;
        letter->to_come = 0;
    }
    turns->letter_count++;
    return 1;
}

/* Begin to look sessions of a delivery up, as many as the block takes. */
static void seek_some(Turns *turns, Letter *letter)
{
    while (letter->to_come && turns->item_count < BLOCK) {
        Text name;
        if (!read_str(&letter->sessions, &name)) {
            letter->unreadable = 1;
            letter->to_come = 0;
            break;
        }
        seek(&turns->items[turns->item_count++], letter->readers, name.at, name.size);
        letter->to_come--;
    }
    letter->upto = turns->item_count;
}

/* 1: the block has something; 0: there is nothing left; -1: exception. */
static int fill(Turns *turns)
{
    int found = 1;
    if (turns->letter_count) /* it has sessions to come */
        seek_some(turns, &turns->letters[0]);
    while (turns->letter_count < BLOCK && turns->item_count < BLOCK && (found = take_letter(turns)) > 0)
        seek_some(turns, &turns->letters[turns->letter_count - 1]);
    if (found < 0)
        return -1;
    look_up(turns->items, turns->item_count);
    return turns->letter_count > 0;
}

/* Sending it */

static int send_letter(Turns *turns, Letter *letter)
{
    if (!letter->plain)
        return leave(turns, letter, Py_None);
    Entry framed = letter->entry;
    if (letter->from < letter->upto && frame(&framed, &turns->framed, &turns->room))
        return -1;
    Py_ssize_t passed = 0;
    for (int at = letter->from; at < letter->upto; at++) {
        int done = pass(&turns->items[at], &framed);
        if (done < 0 || (!done && note_left(letter, &turns->items[at])))
            return -1;
        passed += done;
    }
    if (count_passed(turns, letter, passed))
        return -1;
    if (letter->to_come)
        return 0;
    return letter->unreadable ? leave(turns, letter, Py_None) : letter->left ? leave(turns, letter, letter->left) : 0;
}

static int send_all(Turns *turns)
{
    for (int at = 0; at < turns->letter_count; at++)
        if (send_letter(turns, &turns->letters[at]))
            return -1;
    return 0;
}

/* Empty the block, but for a delivery that goes on in the next one. */
static void empty(Turns *turns)
{
    drop(turns->items, turns->item_count);
    turns->item_count = 0;
    int last = turns->letter_count - 1, goes_on = last >= 0 && turns->letters[last].to_come;
    for (int at = 0; at <= last - goes_on; at++)
        drop_letter(&turns->letters[at]);
    if (goes_on) {
        turns->letters[0] = turns->letters[last];
        turns->letters[0].from = turns->letters[0].upto = 0;
    }
    turns->letter_count = goes_on;
}

/* Turns */

/* How much was done; 0: there was nothing left; -1: exception. */
static Py_ssize_t take_turn(Turns *turns)
{
    Py_ssize_t done = 0;
    int found = 1;
    while (done < turns->most && (found = fill(turns)) > 0) {
        found = send_all(turns);
        done += turns->letter_count + turns->item_count;
        empty(turns);
        if (found < 0)
            return -1;
    }
    return found < 0 || note_counted(turns) ? -1 : done;
}

static PyObject *turns_next(Turns *turns)
{
    if (turns->running) {
        PyErr_SetString(PyExc_ValueError, "a turn is being taken");
        return NULL;
    }
    if (turns->over)
        return NULL;
    turns->running = 1;
    Py_CLEAR(turns->log); /* the log may have other readers by now; a delivery that goes on keeps those it had */
    Py_CLEAR(turns->readers);
    Py_XSETREF(turns->passed, PyList_New(0));
    Py_XSETREF(turns->packed, PyList_New(0));
    Py_XSETREF(turns->left, PyList_New(0));
    PyObject *others = NULL, *result = NULL;
    Py_ssize_t done = turns->passed && turns->packed && turns->left ? take_turn(turns) : -1;
    if (done > 0 && (others = decoded(turns)))
        result = PyTuple_Pack(2, others, turns->passed);
    Py_XDECREF(others);
    turns->over = !result;
    turns->running = 0;
    return result;
}

static void turns_dealloc(Turns *turns)
{
    drop(turns->items, turns->item_count);
    for (int at = 0; at < turns->letter_count; at++)
        drop_letter(&turns->letters[at]);
    for (Py_ssize_t at = 0; at < turns->part; at++)
        PyBuffer_Release(&turns->buffers[at]);
    PyMem_Free(turns->buffers);
    PyMem_Free(turns->framed);
    PyObject *owned[] = {turns->parts,  turns->logs,        turns->decode, turns->log, (PyObject *)turns->readers,
                         turns->passed, turns->counted_log, turns->packed, turns->left};
    for (size_t at = 0; at < sizeof owned / sizeof *owned; at++)
        Py_XDECREF(owned[at]);
    Py_TYPE(turns)->tp_free((PyObject *)turns);
}

PyTypeObject TurnsType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "gateway._passing.Turns",
    .tp_doc = "What `pass_all` returns.",
    .tp_basicsize = sizeof(Turns),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = (iternextfunc)turns_next,
    .tp_dealloc = (destructor)turns_dealloc,
};

PyObject *pass_all(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *parts, *logs, *decode;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(args, "O!O!On", &PyList_Type, &parts, &PyDict_Type, &logs, &decode, &most))
        return NULL;
    if (most < 1) {
        PyErr_SetString(PyExc_ValueError, "a turn is for one session at the least");
        return NULL;
    }
    Turns *turns = (Turns *)TurnsType.tp_alloc(&TurnsType, 0);
    if (!turns)
        return NULL;
    turns->logs = Py_NewRef(logs);
    turns->decode = Py_NewRef(decode);
    turns->most = most;
    turns->parts = PyList_AsTuple(parts);
    if (turns->parts && !(turns->buffers = PyMem_Calloc((size_t)PyTuple_GET_SIZE(turns->parts) + 1, sizeof(Py_buffer))))
        PyErr_NoMemory();
    if (!turns->buffers)
        Py_CLEAR(turns);
    return (PyObject *)turns;
}
