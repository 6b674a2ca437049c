/* Every function of the C interface as a Python function, and greenlets whose functions are C.
 *
 * The constant NULL of the module, passed as an argument, stands for a C null pointer. What a
 * function returns stands as it is; `nothing` is returned for NULL without an exception. */
#define PY_SSIZE_T_CLEAN
#include <greenlet/greenlet.h>

static PyObject *null_mark;
static PyObject *nothing_mark;

static PyObject *
unmarked(PyObject *object)
{
    return object == null_mark ? NULL : object;
}

static PyObject *
result_or_nothing(PyObject *result)
{
    if (result == NULL && !PyErr_Occurred()) {
        return Py_NewRef(nothing_mark);
    }
    return result;
}

static PyObject *
number_or_error(int number)
{
    /* -1 with an exception, 0 or 1 without: anything else is a fault of the interface. */
    if ((number == -1) != (PyErr_Occurred() != NULL) || number < -1 || number > 1) {
        PyErr_Clear();
        return PyErr_Format(PyExc_AssertionError, "the function returned %d", number);
    }
    return number == -1 ? NULL : PyLong_FromLong(number);
}

/* Takes `count` arguments out of a tuple, null pointers where NULL stands. */
static int
take(PyObject *args, Py_ssize_t count, PyObject **places)
{
    if (PyTuple_GET_SIZE(args) != count) {
        PyErr_Format(PyExc_AssertionError, "%zd arguments wanted", count);
        return -1;
    }
    for (Py_ssize_t index = 0; index < count; index++) {
        places[index] = unmarked(PyTuple_GET_ITEM(args, index));
    }
    return 0;
}

static PyObject *
call_new(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *a[2];
    if (take(args, 2, a) < 0) {
        return NULL;
    }
    return result_or_nothing((PyObject *)PyGreenlet_New(a[0], (PyGreenlet *)a[1]));
}

static PyObject *
call_get_current(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    return result_or_nothing((PyObject *)PyGreenlet_GetCurrent());
}

static PyObject *
call_switch(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *a[3];
    if (take(args, 3, a) < 0) {
        return NULL;
    }
    return result_or_nothing(PyGreenlet_Switch((PyGreenlet *)a[0], a[1], a[2]));
}

static PyObject *
call_throw(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *a[4];
    if (take(args, 4, a) < 0) {
        return NULL;
    }
    return result_or_nothing(PyGreenlet_Throw((PyGreenlet *)a[0], a[1], a[2], a[3]));
}

static PyObject *
call_set_parent(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *a[2];
    if (take(args, 2, a) < 0) {
        return NULL;
    }
    return number_or_error(PyGreenlet_SetParent((PyGreenlet *)a[0], (PyGreenlet *)a[1]));
}

static PyObject *
call_get_parent(PyObject *Py_UNUSED(module), PyObject *object)
{
    return result_or_nothing((PyObject *)PyGreenlet_GetParent((PyGreenlet *)unmarked(object)));
}

static PyObject *
call_get_parent_alias(PyObject *Py_UNUSED(module), PyObject *object)
{
    return result_or_nothing((PyObject *)PyGreenlet_GET_PARENT((PyGreenlet *)unmarked(object)));
}

static PyObject *
call_main(PyObject *Py_UNUSED(module), PyObject *object)
{
    return number_or_error(PyGreenlet_MAIN((PyGreenlet *)unmarked(object)));
}

static PyObject *
call_started(PyObject *Py_UNUSED(module), PyObject *object)
{
    return number_or_error(PyGreenlet_STARTED((PyGreenlet *)unmarked(object)));
}

static PyObject *
call_active(PyObject *Py_UNUSED(module), PyObject *object)
{
    return number_or_error(PyGreenlet_ACTIVE((PyGreenlet *)unmarked(object)));
}

static PyObject *
call_check(PyObject *Py_UNUSED(module), PyObject *object)
{
    PyObject *checked = unmarked(object);
    return PyBool_FromLong(PyGreenlet_Check(checked));
}

/* (the class, greenlet.error, GreenletExit) as the table has them. */
static PyObject *
objects(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    return PyTuple_Pack(3, (PyObject *)&PyGreenlet_Type, PyExc_GreenletError, PyExc_GreenletExit);
}

/* The fields of the object that C may look at: (weak references, dict), `nothing` for NULL. */
static PyObject *
fields(PyObject *Py_UNUSED(module), PyObject *object)
{
    PyGreenlet *greenlet = (PyGreenlet *)object;
    return PyTuple_Pack(2, greenlet->weakreflist ? greenlet->weakreflist : nothing_mark,
                        greenlet->dict ? greenlet->dict : nothing_mark);
}

/* Greenlets that run C. */

/* Hands each value it is given back to its parent, doubled, until it is given None; then returns
 * how many there were. All references that it holds across switches are on the C stack. */
static PyObject *
doubler(PyObject *Py_UNUSED(module), PyObject *first)
{
    long count = 0;
    PyObject *value = Py_NewRef(first);
    while (value != Py_None) {
        PyObject *doubled = PyNumber_Add(value, value);
        Py_DECREF(value);
        if (doubled == NULL) {
            return NULL;
        }
        PyGreenlet *current = PyGreenlet_GetCurrent();
        if (current == NULL) {
            Py_DECREF(doubled);
            return NULL;
        }
        PyGreenlet *parent = PyGreenlet_GetParent(current);
        Py_DECREF(current);
        PyObject *args = PyTuple_Pack(1, doubled);
        Py_DECREF(doubled);
        if (args == NULL) {
            Py_XDECREF(parent);
            return NULL;
        }
        value = PyGreenlet_Switch(parent, args, NULL);
        Py_DECREF(args);
        Py_XDECREF(parent);
        if (value == NULL) {
            return NULL;
        }
        count++;
    }
    Py_DECREF(value);
    return PyLong_FromLong(count);
}

static PyMethodDef doubler_method = {"doubler", doubler, METH_O, NULL};

/* Runs `doubler` in a greenlet made here, feeds it the numbers below `count`, and returns their
 * doubled sum. */
static PyObject *
drive_doubler(PyObject *Py_UNUSED(module), PyObject *argument)
{
    long count = PyLong_AsLong(argument);
    if (count == -1 && PyErr_Occurred()) {
        return NULL;
    }
    PyObject *run = PyCFunction_New(&doubler_method, NULL);
    if (run == NULL) {
        return NULL;
    }
    PyGreenlet *greenlet = PyGreenlet_New(run, NULL);
    Py_DECREF(run);
    if (greenlet == NULL) {
        return NULL;
    }
    long sum = 0;
    PyObject *result = NULL;
    for (long number = 0; number <= count; number++) {
        PyObject *args = number < count ? Py_BuildValue("(l)", number) : Py_BuildValue("(O)", Py_None);
        if (args == NULL) {
            goto failed;
        }
        result = PyGreenlet_Switch(greenlet, args, NULL);
        Py_DECREF(args);
        if (result == NULL) {
            goto failed;
        }
        long value = PyLong_AsLong(result);
        Py_DECREF(result);
        if (value == -1 && PyErr_Occurred()) {
            goto failed;
        }
        if (number < count) {
            sum += value;
        } else if (value != count || PyGreenlet_ACTIVE(greenlet)) {
            PyErr_SetString(PyExc_AssertionError, "the greenlet should have ended");
            goto failed;
        }
    }
    Py_DECREF(greenlet);
    return PyLong_FromLong(sum);
failed:
    Py_DECREF(greenlet);
    return NULL;
}

/* Calls `function(depth)` below `depth` frames of C, each of which holds a reference. */
static PyObject *
call_below(PyObject *module, PyObject *args)
{
    PyObject *function;
    long depth;
    if (!PyArg_ParseTuple(args, "Ol", &function, &depth)) {
        return NULL;
    }
    if (depth == 0) {
        return PyObject_CallNoArgs(function);
    }
    PyObject *deeper = Py_BuildValue("(Ol)", function, depth - 1);
    if (deeper == NULL) {
        return NULL;
    }
    PyObject *result = call_below(module, deeper);
    Py_DECREF(deeper);
    return result;
}

static PyMethodDef methods[] = {
    {"new", call_new, METH_VARARGS, NULL},
    {"get_current", call_get_current, METH_NOARGS, NULL},
    {"switch", call_switch, METH_VARARGS, NULL},
    {"throw", call_throw, METH_VARARGS, NULL},
    {"set_parent", call_set_parent, METH_VARARGS, NULL},
    {"get_parent", call_get_parent, METH_O, NULL},
    {"get_parent_alias", call_get_parent_alias, METH_O, NULL},
    {"main", call_main, METH_O, NULL},
    {"started", call_started, METH_O, NULL},
    {"active", call_active, METH_O, NULL},
    {"check", call_check, METH_O, NULL},
    {"objects", objects, METH_NOARGS, NULL},
    {"fields", fields, METH_O, NULL},
    {"doubler", doubler, METH_O, NULL},
    {"drive_doubler", drive_doubler, METH_O, NULL},
    {"call_below", call_below, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "interface", NULL, -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit_interface(void)
{
    PyGreenlet_Import();
    if (_PyGreenlet_API == NULL) {
        return NULL;
    }
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL) {
        return NULL;
    }
    null_mark = PyObject_CallNoArgs((PyObject *)&PyBaseObject_Type);
    nothing_mark = PyObject_CallNoArgs((PyObject *)&PyBaseObject_Type);
    if (PyModule_AddObjectRef(module, "NULL", null_mark) < 0 ||
        PyModule_AddObjectRef(module, "nothing", nothing_mark) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
