/* Uses the capsule's table as the documentation numbers it, without the header: what extensions
 * that were compiled long ago do. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

struct table {
    PyTypeObject *type;
    PyObject *error;
    PyObject *exit;
    PyObject *(*new_)(PyObject *run, PyObject *parent);
    PyObject *(*get_current)(void);
    PyObject *(*throw_)(PyObject *self, PyObject *typ, PyObject *val, PyObject *tb);
    PyObject *(*switch_)(PyObject *self, PyObject *args, PyObject *kwargs);
    int (*set_parent)(PyObject *self, PyObject *parent);
    int (*main_)(PyObject *self);
    int (*started)(PyObject *self);
    int (*active)(PyObject *self);
    PyObject *(*get_parent)(PyObject *self);
};

static struct table *table;

/* A greenlet's life by numbers only: the type, error and exit classes, the result of the switch,
 * and the states before the start, suspended and at the end. */
static PyObject *
live(PyObject *Py_UNUSED(module), PyObject *run)
{
    PyObject *current = table->get_current();
    PyObject *greenlet = table->new_(run, NULL);
    if (current == NULL || greenlet == NULL) {
        return NULL;
    }
    int before = table->started(greenlet);
    int is_main[2] = {table->main_(current), table->main_(greenlet)};
    PyObject *args = PyTuple_Pack(1, current);
    PyObject *result = args ? table->switch_(greenlet, args, NULL) : NULL;
    Py_XDECREF(args);
    if (result == NULL) {
        return NULL;
    }
    int suspended = table->active(greenlet);
    PyObject *parent = table->get_parent(greenlet);
    int set = table->set_parent(greenlet, current);
    PyObject *end = table->throw_(greenlet, table->exit, NULL, NULL);
    if (end == NULL) {
        return NULL;
    }
    int ended = table->active(greenlet);
    PyObject *states = Py_BuildValue("(iiiiii)", before, is_main[0], is_main[1], suspended, set, ended);
    Py_DECREF(greenlet);
    Py_DECREF(current);
    return Py_BuildValue("(OOONNNN)", table->type, table->error, table->exit, result, parent, end,
                         states);
}

static PyMethodDef methods[] = {
    {"live", live, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "table", NULL, -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit_table(void)
{
    table = PyCapsule_Import("greenlet._C_API", 0);
    return table == NULL ? NULL : PyModule_Create(&definition);
}
