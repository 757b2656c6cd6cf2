/* How bytes leave a connection: past its transport while that holds nothing, else through it. */

#include "passing.h"

#include <errno.h>
#include <sys/socket.h>

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
    Py_VISIT(self->failure);
    return 0;
}

static int way_clear(Way *self)
{
    Py_CLEAR(self->write);
    Py_CLEAR(self->waiting);
    Py_CLEAR(self->failure);
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
    PyObject *ask = Py_NewRef(self->waiting); /* what is called may give the way another one */
    PyObject *waiting = PyObject_CallNoArgs(ask);
    Py_DECREF(ask);
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

/* Keep what was raised, so that it is raised again: nobody knows how much of a message has gone. */
static int note_failure(Way *self)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value && traceback)
        PyException_SetTraceback(value, traceback);
    Py_XSETREF(self->failure, Py_XNewRef(value));
    PyErr_Restore(type, value, traceback);
    return -1;
}

int send_on(Way *self, const char *bytes, Py_ssize_t size)
{
    if (self->failure) {
        PyErr_SetObject((PyObject *)Py_TYPE(self->failure), self->failure);
        return -1;
    }
    if (!self->write || !self->waiting) {
        PyErr_SetString(PyExc_TypeError, "this Way leads nowhere: it was made without its arguments");
        return -1;
    }
    Py_ssize_t took = past_the_transport(self, bytes, size);
    if (took < 0)
        return note_failure(self);
    if (took == size)
        return 0;
    self->held = 1;
    PyObject *rest = PyBytes_FromStringAndSize(bytes + took, size - took), *write = Py_NewRef(self->write);
    PyObject *done = rest ? PyObject_CallOneArg(write, rest) : NULL;
    Py_DECREF(write);
    Py_XDECREF(rest);
    Py_XDECREF(done);
    return done ? 0 : note_failure(self);
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

PyTypeObject WayType = {
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
