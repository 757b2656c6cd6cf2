/* The way of nearly all deliveries, in C: what `passing_pure.py` does, and no more.
 *
 * With thousands of sessions the memory of each is cold, and a system call apiece is to be paid anyway; what this saves
 * is the interpreter's and the transport's share. A socket is written to directly only while its transport holds
 * nothing, so that bytes keep their order; what it does not take at once goes to the transport, which waits for it.
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

/* How many bytes of `size` the socket has taken; 0 also where the transport has to say what is wrong; -1: exception. */
static Py_ssize_t past_the_transport(Way *self, const char *bytes, Py_ssize_t size)
{
    if (self->fd < 0)
        return 0;
    PyObject *waiting = PyObject_CallNoArgs(self->waiting);
    if (!waiting)
        return -1;
    int holds = PyObject_IsTrue(waiting);
    Py_DECREF(waiting);
    if (holds)
        return holds < 0 ? -1 : 0;
    ssize_t took;
    do
        took = send(self->fd, bytes, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (took < 0 && errno == EINTR);
    return took < 0 ? 0 : took;
}

static int send_on(Way *self, PyObject *data)
{
    if (!self->write || !self->waiting) {
        PyErr_SetString(PyExc_TypeError, "this Way leads nowhere: it was made without its arguments");
        return -1;
    }
    Py_ssize_t size = PyBytes_GET_SIZE(data);
    Py_ssize_t took = past_the_transport(self, PyBytes_AS_STRING(data), size);
    if (took < 0)
        return -1;
    if (took == size)
        return 0;
    PyObject *rest = took ? PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + took, size - took) : Py_NewRef(data);
    PyObject *done = rest ? PyObject_CallOneArg(self->write, rest) : NULL;
    Py_XDECREF(rest);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static PyObject *way_send(Way *self, PyObject *data)
{
    if (!PyBytes_CheckExact(data))
        return PyErr_Format(PyExc_TypeError, "bytes, not %s", Py_TYPE(data)->tp_name);
    if (send_on(self, data))
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef way_methods[] = {
    {"send", (PyCFunction)way_send, METH_O, "Hand bytes to the network, past the transport where that is possible."},
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

/* pass_on */

/* 1: it has passed; 0: it is for the session to decide; -1: exception. */
static int passes(PyObject *positions, PyObject *session, long long first, long long last, PyObject *data)
{
    PyObject *found = PyDict_GetItemWithError(positions, session);
    if (!found)
        return PyErr_Occurred() ? -1 : 0;
    if (!PyObject_TypeCheck(found, &PositionType)) {
        PyErr_Format(PyExc_TypeError, "a Position, not %s", Py_TYPE(found)->tp_name);
        return -1;
    }
    Position *position = (Position *)found;
    if (position->next != first || !position->way || !Py_IS_TYPE(position->way, &WayType))
        return 0;
    position->next = position->expected = last + 1;
    position->head = position->sent = last;
    PyObject *way = Py_NewRef(position->way); /* what is called from within may let go of it */
    int failed = send_on((Way *)way, data);
    Py_DECREF(way);
    return failed ? -1 : 1;
}

static PyObject *pass_on(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *positions, *sessions, *data;
    long long first, last;
    if (!PyArg_ParseTuple(args, "O!O!LLS", &PyDict_Type, &positions, &PyList_Type, &sessions, &first, &last, &data))
        return NULL;
    PyObject *others = PyList_New(0);
    for (Py_ssize_t at = 0; others && at < PyList_GET_SIZE(sessions); at++) {
        PyObject *session = Py_NewRef(PyList_GET_ITEM(sessions, at));
        int passed = first ? passes(positions, session, first, last, data) : 0;
        if (passed < 0 || (!passed && PyList_Append(others, session)))
            Py_CLEAR(others);
        Py_DECREF(session);
    }
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
