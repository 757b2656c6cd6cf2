/* Who reads a log: positions by session, in a table with open addressing.
 *
 * A dict would do, were it not that each look into it waits for memory several times, one session after the other. Here
 * the memory of many sessions is asked for before the first of them is needed: its slot (`seek`), then what the slot
 * names (`meet`), then what that names (`settle`).
 */

#include "passing.h"

#include <string.h>

enum { LEAST = 8 }; /* slots */

static uint64_t hash_of(const char *at, size_t size)
{
    const uint64_t prime = 0x9e3779b97f4a7c15u;
    uint64_t hash = size * prime, word;
    for (; size >= sizeof word; at += sizeof word, size -= sizeof word) {
        memcpy(&word, at, sizeof word);
        hash = (hash ^ word) * prime;
        hash ^= hash >> 32;
    }
    word = 0;
    memcpy(&word, at, size);
    hash = (hash ^ word) * prime;
    return hash ^ hash >> 32;
}

static int same(PyObject *session, const char *at, size_t size)
{
    if (PyUnicode_IS_COMPACT_ASCII(session)) /* as ours are: no call, and no more of its memory than this */
        return (size_t)PyUnicode_GET_LENGTH(session) == size && !memcmp(PyUnicode_1BYTE_DATA(session), at, size);
    Py_ssize_t length;
    const char *name = PyUnicode_AsUTF8AndSize(session, &length); /* `enter` has made it */
    return name && (size_t)length == size && !memcmp(name, at, size);
}

/* The slot of a session, or the empty one where it would be. */
static Slot *slot_of(const Readers *readers, uint64_t hash, const char *at, size_t size)
{
    size_t number = hash & readers->mask;
    for (;; number = (number + 1) & readers->mask) {
        Slot *slot = &readers->slots[number];
        if (!slot->session || (slot->hash == hash && same(slot->session, at, size)))
            return slot;
    }
}

void seek(Item *item, const Readers *readers, const char *at, size_t size)
{
    *item = (Item){.at = at, .size = size, .hash = hash_of(at, size), .readers = readers};
    if (readers->slots)
        __builtin_prefetch(&readers->slots[item->hash & readers->mask]);
}

static void meet(const Item *item)
{
    const Readers *readers = item->readers;
    if (!readers->slots)
        return;
    const Slot *slot = &readers->slots[item->hash & readers->mask];
    if (slot->hash == item->hash && slot->session) { /* else it is further on, which is seldom */
        __builtin_prefetch(slot->session);
        __builtin_prefetch((const char *)slot->session + 64);
        __builtin_prefetch(slot->position);
        __builtin_prefetch((const char *)slot->position + 64);
    }
}

static void settle(Item *item)
{
    const Readers *readers = item->readers;
    if (!readers->slots)
        return;
    const Slot *slot = slot_of(readers, item->hash, item->at, item->size);
    item->position = (Position *)Py_XNewRef(slot->position);
    if (item->position && item->position->way)
        __builtin_prefetch(item->position->way);
}

void look_up(Item *items, int count)
{
    for (int at = 0; at < count; at++)
        meet(&items[at]);
    for (int at = 0; at < count; at++)
        settle(&items[at]);
}

static int grow(Readers *readers)
{
    size_t before = readers->slots ? readers->mask + 1 : 0, after = before ? 2 * before : LEAST;
    Slot *slots = PyMem_Calloc(after, sizeof *slots);
    if (!slots) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t at = 0; at < before; at++) {
        const Slot *slot = &readers->slots[at];
        if (!slot->session)
            continue;
        size_t number = slot->hash & (after - 1);
        while (slots[number].session)
            number = (number + 1) & (after - 1);
        slots[number] = *slot;
    }
    PyMem_Free(readers->slots);
    readers->slots = slots;
    readers->mask = after - 1;
    return 0;
}

static PyObject *readers_enter(Readers *readers, PyObject *args)
{
    PyObject *session, *position;
    if (!PyArg_ParseTuple(args, "UO!", &session, &PositionType, &position))
        return NULL;
    Py_ssize_t size;
    const char *name = PyUnicode_AsUTF8AndSize(session, &size);
    if (!name || ((!readers->slots || 4 * (size_t)readers->used > 3 * readers->mask) && grow(readers)))
        return NULL;
    uint64_t hash = hash_of(name, (size_t)size);
    Slot *slot = slot_of(readers, hash, name, (size_t)size);
    if (!slot->session) {
        slot->session = Py_NewRef(session);
        slot->hash = hash;
        readers->used++;
    }
    PyObject *before = (PyObject *)slot->position;
    slot->position = (Position *)Py_NewRef(position);
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

/* Empty a slot, and bring back what lies behind it only because it was taken. */
static void empty(Readers *readers, size_t hole)
{
    Slot gone = readers->slots[hole];
    for (size_t number = (hole + 1) & readers->mask; readers->slots[number].session;
         number = (number + 1) & readers->mask) {
        size_t home = readers->slots[number].hash & readers->mask;
        if (((number - home) & readers->mask) >= ((number - hole) & readers->mask)) {
            readers->slots[hole] = readers->slots[number];
            hole = number;
        }
    }
    readers->slots[hole] = (Slot){0};
    readers->used--;
    Py_DECREF(gone.session);
    Py_DECREF(gone.position);
}

static PyObject *readers_strike(Readers *readers, PyObject *session)
{
    Py_ssize_t size;
    const char *name = PyUnicode_AsUTF8AndSize(session, &size);
    if (!name)
        return NULL;
    if (readers->slots) {
        Slot *slot = slot_of(readers, hash_of(name, (size_t)size), name, (size_t)size);
        if (slot->session)
            empty(readers, (size_t)(slot - readers->slots));
    }
    Py_RETURN_NONE;
}

static Py_ssize_t readers_length(PyObject *readers)
{
    return ((Readers *)readers)->used;
}

static int readers_traverse(Readers *readers, visitproc visit, void *arg)
{
    for (size_t at = 0; readers->slots && at <= readers->mask; at++)
        Py_VISIT(readers->slots[at].position);
    return 0;
}

static int readers_clear(Readers *readers)
{
    Slot *slots = readers->slots;
    size_t mask = readers->mask;
    readers->slots = NULL;
    readers->used = 0;
    for (size_t at = 0; slots && at <= mask; at++) {
        Py_XDECREF(slots[at].session);
        Py_XDECREF(slots[at].position);
    }
    PyMem_Free(slots);
    return 0;
}

static void readers_dealloc(Readers *readers)
{
    PyObject_GC_UnTrack(readers);
    readers_clear(readers);
    Py_TYPE(readers)->tp_free((PyObject *)readers);
}

static PyMethodDef readers_methods[] = {
    {"enter", (PyCFunction)readers_enter, METH_VARARGS, "Note where a session stands."},
    {"strike", (PyCFunction)readers_strike, METH_O, "Forget a session, if it is there."},
    {NULL}};

static PySequenceMethods readers_sequence = {.sq_length = readers_length};

PyTypeObject ReadersType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "gateway._passing.Readers",
    .tp_doc = "Where the sessions stand that read a log.",
    .tp_basicsize = sizeof(Readers),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_traverse = (traverseproc)readers_traverse,
    .tp_clear = (inquiry)readers_clear,
    .tp_dealloc = (destructor)readers_dealloc,
    .tp_as_sequence = &readers_sequence,
    .tp_methods = readers_methods,
};
