/* The module. */

#include "passing.h"

static PyMethodDef functions[] = {
    {"pass_all", pass_all, METH_VARARGS, "Send the entries of deliveries to the sessions that wait for just these."},
    {NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "gateway._passing", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit__passing(void)
{
    PyObject *made = PyModule_Create(&module);
    if (made && (PyType_Ready(&TurnsType) || PyModule_AddType(made, &WayType) ||
                 PyModule_AddType(made, &PositionType) || PyModule_AddType(made, &ReadersType)))
        Py_CLEAR(made);
    return made;
}
