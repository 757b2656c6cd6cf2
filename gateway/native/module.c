/* An entry for many sessions, and the module. */

#include "passing.h"

static int pass_block(Readers *readers, PyObject *sessions, Py_ssize_t from, const Entry *entry, PyObject *others)
{
    Item items[BLOCK];
    PyObject *names[BLOCK]; /* a list may change while entries are written */
    int count = 0, failed = 0;
    for (Py_ssize_t at = from; at < PyList_GET_SIZE(sessions) && count < BLOCK; at++) {
        Py_ssize_t size;
        PyObject *session = PyList_GET_ITEM(sessions, at);
        const char *name = PyUnicode_AsUTF8AndSize(session, &size);
        if ((failed = !name))
            break;
        seek(&items[count], readers, name, (size_t)size);
        names[count++] = Py_NewRef(session);
    }
    look_up(items, count);
    for (int at = 0; at < count && !failed; at++) {
        int passed = pass(&items[at], entry);
        failed = passed < 0 || (!passed && PyList_Append(others, names[at]));
    }
    drop(items, count);
    for (int at = 0; at < count; at++)
        Py_DECREF(names[at]);
    return failed ? -1 : 0;
}

PyObject *pass_on(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *readers, *sessions, *data;
    Entry entry;
    if (!PyArg_ParseTuple(args, "O!O!LLS", &ReadersType, &readers, &PyList_Type, &sessions, &entry.first, &entry.last,
                          &data))
        return NULL;
    entry.bytes = PyBytes_AS_STRING(data);
    entry.size = PyBytes_GET_SIZE(data);
    PyObject *others = PyList_New(0);
    for (Py_ssize_t at = 0; others && at < PyList_GET_SIZE(sessions); at += BLOCK)
        if (pass_block((Readers *)readers, sessions, at, &entry, others))
            Py_CLEAR(others);
    return others;
}

static PyMethodDef functions[] = {
    {"pass_all", pass_all, METH_VARARGS, "Send the entries of deliveries to the sessions that wait for just these."},
    {"pass_on", pass_on, METH_VARARGS, "Send an entry to the sessions that wait for just this one; return the others."},
    {NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "gateway._passing", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit__passing(void)
{
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddType(made, &WayType) || PyModule_AddType(made, &PositionType) ||
                 PyModule_AddType(made, &ReadersType)))
        Py_CLEAR(made);
    return made;
}
