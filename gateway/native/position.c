/* Where sessions stand in logs, and what passes them. */

#include "passing.h"

#include <structmember.h>

static int position_traverse(Position *self, visitproc visit, void *arg)
{
    Py_VISIT(self->way);
    return 0;
}

static int position_clear(Position *self)
{
    Py_CLEAR(self->way);
    return 0;
}

static void position_dealloc(Position *self)
{
    PyObject_GC_UnTrack(self);
    position_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMemberDef position_members[] = {
    {"expected", T_LONGLONG, offsetof(Position, expected), 0, NULL},
    {"head", T_LONGLONG, offsetof(Position, head), 0, NULL},
    {"sent", T_LONGLONG, offsetof(Position, sent), 0, NULL},
    {"next", T_LONGLONG, offsetof(Position, next), 0, NULL},
    {"way", T_OBJECT, offsetof(Position, way), 0, NULL},
    {NULL}};

PyTypeObject PositionType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "gateway._passing.Position",
    .tp_doc = "Where one session stands in one log.",
    .tp_basicsize = sizeof(Position),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_traverse = (traverseproc)position_traverse,
    .tp_clear = (inquiry)position_clear,
    .tp_dealloc = (destructor)position_dealloc,
    .tp_members = position_members,
};

/* A write before this one may have changed `next` or `way`, so they are read here and not when the session is found. */
int pass(const Item *item, const Entry *entry)
{
    Position *position = item->position;
    if (!position || !entry->first || position->next != entry->first || !position->way ||
        !Py_IS_TYPE(position->way, &WayType))
        return 0;
    const long long expected = position->expected, head = position->head, sent = position->sent;
    position->next = position->expected = entry->last + 1;
    position->head = position->sent = entry->last;
    PyObject *way = Py_NewRef(position->way); /* what is called from within may let go of it */
    int failed = send_on((Way *)way, entry->bytes, entry->size);
    Py_DECREF(way);
    if (failed && !PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    if (failed) { /* who looks at what is left meets it again, and knows the session */
        PyErr_Clear();
        position->next = 0;
        position->expected = expected;
        position->head = head;
        position->sent = sent;
    }
    return !failed;
}

void drop(const Item *items, int count)
{
    for (int at = 0; at < count; at++)
        Py_XDECREF(items[at].position);
}
