/* Types that derive from the greenlet type in C: one that is laid out right, and one that takes
 * PyGreenlet for the whole of the object. */
#define PY_SSIZE_T_CLEAN
#include <greenlet/greenlet.h>

static Py_ssize_t counter_offset;

static PyObject *
count(PyObject *self, PyObject *Py_UNUSED(unused))
{
    long *counter = (long *)((char *)self + counter_offset);
    return PyLong_FromLong(++*counter);
}

static PyMethodDef counting_methods[] = {
    {"count", count, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot counting_slots[] = {
    {Py_tp_methods, counting_methods},
    {0, NULL},
};

static PyObject *
make_counting(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    counter_offset = PyGreenlet_Type.tp_basicsize;
    PyType_Spec spec = {
        "derived.Counting",
        (int)(counter_offset + (Py_ssize_t)sizeof(long)),
        0,
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
        counting_slots,
    };
    return PyType_FromSpecWithBases(&spec, (PyObject *)&PyGreenlet_Type);
}

static PyType_Slot no_slots[] = {
    {0, NULL},
};

static PyObject *
make_small(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    PyType_Spec spec = {
        "derived.Small", sizeof(PyGreenlet) + sizeof(long), 0, Py_TPFLAGS_DEFAULT, no_slots,
    };
    return PyType_FromSpecWithBases(&spec, (PyObject *)&PyGreenlet_Type);
}

static PyMethodDef methods[] = {
    {"make_counting", make_counting, METH_NOARGS, NULL},
    {"make_small", make_small, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "derived", NULL, -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit_derived(void)
{
    PyGreenlet_Import();
    return _PyGreenlet_API == NULL ? NULL : PyModule_Create(&definition);
}
