/* The way of nearly all deliveries, in C: what `passing_pure.py` does, and no more.
 *
 * With thousands of sessions the memory of each is cold, and a system call apiece is to be paid anyway; what this saves
 * is the interpreter's and the transport's share, and it has the memory of the sessions of a block on its way before the
 * first of them is looked at. A socket is written to directly only while its transport holds nothing, so that bytes keep
 * their order; what it does not take at once goes to the transport, which waits for it.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <errno.h>
#include <sys/socket.h>

typedef struct {
    PyObject_HEAD
    PyObject *write;   /* the transport's own */
    PyObject *waiting; /* how many bytes the transport holds */
    int fd;            /* -1: nothing goes past the transport */
    char held;         /* the transport was given something, or may have been, and has not been seen empty since */
} Way;

typedef struct {
    PyObject_HEAD
    long long expected, head, sent, next;
    PyObject *way; /* a Way, or None */
} Position;

static PyTypeObject WayType, PositionType;

/* Way */

static int way_init(Way *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"write", "waiting", "fd", NULL};
    PyObject *write, *waiting;
    int fd;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOi", names, &write, &waiting, &fd))
        return -1;
    Py_XSETREF(self->write, Py_NewRef(write));
    Py_XSETREF(self->waiting, Py_NewRef(waiting));
    self->fd = fd;
    self->held = 1;
    return 0;
}

static int way_traverse(Way *self, visitproc visit, void *arg)
{
    Py_VISIT(self->write);
    Py_VISIT(self->waiting);
    return 0;
}

static int way_clear(Way *self)
{
    Py_CLEAR(self->write);
    Py_CLEAR(self->waiting);
    return 0;
}

static void way_dealloc(Way *self)
{
    PyObject_GC_UnTrack(self);
    way_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* 1: bytes may go past the transport; 0: it still holds some; -1: exception. */
static int see_whether_free(Way *self)
{
    PyObject *waiting = PyObject_CallNoArgs(self->waiting);
    if (!waiting)
        return -1;
    int holds = PyObject_IsTrue(waiting);
    Py_DECREF(waiting);
    self->held = holds != 0;
    return holds < 0 ? -1 : !holds;
}

/* How many bytes of `size` the socket has taken; 0 also where the transport has to say what is wrong; -1: exception. */
static Py_ssize_t past_the_transport(Way *self, const char *bytes, Py_ssize_t size)
{
    int may = self->fd < 0 ? 0 : self->held ? see_whether_free(self) : 1;
    if (may <= 0)
        return may;
    ssize_t took;
    do
        took = send(self->fd, bytes, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (took < 0 && errno == EINTR);
    return took < 0 ? 0 : took;
}

static int send_on(Way *self, const char *bytes, Py_ssize_t size)
{
    if (!self->write || !self->waiting) {
        PyErr_SetString(PyExc_TypeError, "this Way leads nowhere: it was made without its arguments");
        return -1;
    }
    Py_ssize_t took = past_the_transport(self, bytes, size);
    if (took < 0)
        return -1;
    if (took == size)
        return 0;
    self->held = 1;
    PyObject *rest = PyBytes_FromStringAndSize(bytes + took, size - took);
    PyObject *done = rest ? PyObject_CallOneArg(self->write, rest) : NULL;
    Py_XDECREF(rest);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static PyObject *way_send(Way *self, PyObject *data)
{
    if (!PyBytes_CheckExact(data))
        return PyErr_Format(PyExc_TypeError, "bytes, not %s", Py_TYPE(data)->tp_name);
    if (send_on(self, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *way_shut(Way *self, PyObject *Py_UNUSED(nothing))
{
    self->fd = -1;
    Py_RETURN_NONE;
}

static PyMethodDef way_methods[] = {
    {"send", (PyCFunction)way_send, METH_O, "Hand bytes to the network, past the transport where that is possible."},
    {"shut", (PyCFunction)way_shut, METH_NOARGS, "Let nothing go past the transport any more: the socket is closed."},
    {NULL}};

static PyTypeObject WayType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "gateway._passing.Way",
    .tp_doc = "How bytes leave a connection.",
    .tp_basicsize = sizeof(Way),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)way_init,
    .tp_traverse = (traverseproc)way_traverse,
    .tp_clear = (inquiry)way_clear,
    .tp_dealloc = (destructor)way_dealloc,
    .tp_methods = way_methods,
};

/* Position */

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

static PyTypeObject PositionType = {
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

/* Items: an entry on its way to one session */

enum { BLOCK = 32 }; /* sessions that are looked up ahead */

typedef struct {
    long long first, last;
    const char *bytes; /* framed */
    Py_ssize_t size;
} Entry;

typedef struct {
    PyObject *session;
    Position *position; /* NULL: the session does not read the log here */
} Item;

static int find(Item *item, PyObject *positions, PyObject *session)
{
    PyObject *found = PyDict_GetItemWithError(positions, session);
    if (!found && PyErr_Occurred())
        return -1;
    if (found && !PyObject_TypeCheck(found, &PositionType)) {
        PyErr_Format(PyExc_TypeError, "a Position, not %s", Py_TYPE(found)->tp_name);
        return -1;
    }
    item->session = Py_NewRef(session);
    item->position = (Position *)Py_XNewRef(found);
    return 0;
}

static void ask_for_way(const Item *item)
{
    if (item->position && item->position->way)
        __builtin_prefetch(item->position->way);
}

/* 1: it has passed; 0: it is for the session to decide; -1: exception. What was found may have changed since. */
static int pass(const Item *item, const Entry *entry)
{
    Position *position = item->position;
    if (!position || !entry->first || position->next != entry->first || !position->way ||
        !Py_IS_TYPE(position->way, &WayType))
        return 0;
    position->next = position->expected = entry->last + 1;
    position->head = position->sent = entry->last;
    PyObject *way = Py_NewRef(position->way); /* what is called from within may let go of it */
    int failed = send_on((Way *)way, entry->bytes, entry->size);
    Py_DECREF(way);
    return failed ? -1 : 1;
}

static void drop(Item *items, int count)
{
    for (int at = 0; at < count; at++) {
        Py_DECREF(items[at].session);
        Py_XDECREF(items[at].position);
    }
}

static int pass_block(PyObject *positions, PyObject *sessions, Py_ssize_t from, const Entry *entry, PyObject *others)
{
    Item items[BLOCK];
    int count = 0, failed = 0;
    for (Py_ssize_t at = from; at < PyList_GET_SIZE(sessions) && count < BLOCK && !failed; at++) {
        failed = find(&items[count], positions, PyList_GET_ITEM(sessions, at));
        count += !failed;
    }
    for (int at = 0; at < count; at++)
        ask_for_way(&items[at]);
    for (int at = 0; at < count && !failed; at++) {
        int passed = pass(&items[at], entry);
        failed = passed < 0 || (!passed && PyList_Append(others, items[at].session));
    }
    drop(items, count);
    return failed ? -1 : 0;
}

static PyObject *pass_on(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *positions, *sessions, *data;
    Entry entry;
    if (!PyArg_ParseTuple(args, "O!O!LLS", &PyDict_Type, &positions, &PyList_Type, &sessions, &entry.first, &entry.last,
                          &data))
        return NULL;
    entry.bytes = PyBytes_AS_STRING(data);
    entry.size = PyBytes_GET_SIZE(data);
    PyObject *others = PyList_New(0);
    for (Py_ssize_t at = 0; others && at < PyList_GET_SIZE(sessions); at += BLOCK)
        if (pass_block(positions, sessions, at, &entry, others))
            Py_CLEAR(others);
    return others;
}

static PyMethodDef functions[] = {
    {"pass_on", pass_on, METH_VARARGS, "Send an entry to the sessions that wait for just this one; return the others."},
    {NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "gateway._passing", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit__passing(void)
{
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddType(made, &WayType) || PyModule_AddType(made, &PositionType)))
        Py_CLEAR(made);
    return made;
}
