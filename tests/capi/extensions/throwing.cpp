// C++ exceptions in greenlets: thrown, caught and thrown again with switches in between.
#define PY_SSIZE_T_CLEAN
#include <greenlet/greenlet.h>

#include <exception>
#include <stdexcept>

namespace {

int alive = 0;

// Counts itself: at the end every constructor must have met its destructor.
class Guard {
public:
    Guard() { ++alive; }
    Guard(const Guard&) { ++alive; }
    Guard& operator=(const Guard&) = default;
    ~Guard() { --alive; }
};

// A C++ exception; copies of it are counted too.
class Numbered {
public:
    explicit Numbered(long number) : number(number) {}
    long number;

private:
    Guard guard;
};

// Stands for the Python exception that is set.
class PythonError {
    Guard guard;
};

// An owned reference.
class Ref {
public:
    explicit Ref(PyObject* object) : object(object)
    {
        if (object == nullptr) {
            throw PythonError();
        }
    }
    Ref(const Ref&) = delete;
    Ref& operator=(const Ref&) = delete;
    ~Ref() { Py_DECREF(object); }
    PyObject* get() const { return object; }

private:
    PyObject* object;
    Guard guard;
};

PyGreenlet* parent_of_current()
{
    Ref current(reinterpret_cast<PyObject*>(PyGreenlet_GetCurrent()));
    return PyGreenlet_GetParent(reinterpret_cast<PyGreenlet*>(current.get()));
}

// Switches to the parent with a number; returns the value that the next switch brings. While it
// is away no reference to this greenlet is held, so that it can be collected.
PyObject* pause(long number)
{
    Ref parent(reinterpret_cast<PyObject*>(parent_of_current()));
    Ref args(Py_BuildValue("(l)", number));
    PyObject* value =
        PyGreenlet_Switch(reinterpret_cast<PyGreenlet*>(parent.get()), args.get(), nullptr);
    if (value == nullptr) {
        throw PythonError();
    }
    return value;
}

void pause_and_drop(long number) { Ref value(pause(number)); }

// A module function: its C++ exceptions end here. A std::exception becomes RuntimeError.
template <PyObject* (*function)(PyObject*)>
PyObject* method(PyObject*, PyObject* argument)
{
    try {
        return function(argument);
    } catch (const PythonError&) {
        return nullptr;
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
        return nullptr;
    }
}

// As it is, for exceptions that nobody catches.
template <PyObject* (*function)(PyObject*)>
PyObject* unguarded_method(PyObject*, PyObject* argument)
{
    return function(argument);
}

long number_from(PyObject* object)
{
    long number = PyLong_AsLong(object);
    if (number == -1 && PyErr_Occurred()) {
        throw PythonError();
    }
    return number;
}

// A switch between `try` and `throw`: switches `number` times with each level of nested blocks.
long descend(long levels, long number)
{
    try {
        pause_and_drop(number + levels);
        if (levels == 0) {
            throw Numbered(number);
        }
        return descend(levels - 1, number);
    } catch (Numbered& caught) {
        caught.number += 1;
        if (levels < 3) {
            throw;
        }
        return caught.number;
    }
}

PyObject* switch_before_throw(PyObject* argument)
{
    return PyLong_FromLong(descend(3, number_from(argument)));
}

// A switch between `catch` and `throw;`.
PyObject* switch_in_catch(PyObject* argument)
{
    long number = number_from(argument);
    try {
        try {
            throw Numbered(number);
        } catch (const Numbered&) {
            pause_and_drop(number);
            throw;
        }
    } catch (const Numbered& caught) {
        pause_and_drop(caught.number);
        // Handlers in handlers, each with an exception of its own.
        try {
            throw Numbered(caught.number * 2);
        } catch (const Numbered& inner) {
            pause_and_drop(inner.number);
            try {
                throw;
            } catch (const Numbered& again) {
                return PyLong_FromLong(again.number + caught.number);
            }
        }
    }
}

// (exceptions in flight, whether one is being handled): as this greenlet sees it.
PyObject* state(PyObject*)
{
    return Py_BuildValue("(iO)", std::uncaught_exceptions(),
                         std::current_exception() ? Py_True : Py_False);
}

// Switches while an exception is in flight: from a destructor that unwinding runs. Notes how many
// are in flight before and after.
class PausesAtEnd {
public:
    PausesAtEnd(long number, int& before, int& after)
        : number(number), before(before), after(after)
    {
    }
    ~PausesAtEnd()
    {
        before = std::uncaught_exceptions();
        try {
            pause_and_drop(number);
        } catch (const PythonError&) {
            PyErr_WriteUnraisable(nullptr);
        }
        after = std::uncaught_exceptions();
    }

private:
    long number;
    int& before;
    int& after;
};

PyObject* switch_while_unwinding(PyObject* argument)
{
    long number = number_from(argument);
    int before = -1;
    int after = -1;
    try {
        PausesAtEnd pauses(number, before, after);
        throw Numbered(number);
    } catch (const Numbered& caught) {
        return Py_BuildValue("(lii)", caught.number, before, after);
    }
}

// Calls Python code inside a handler, and goes on with the exception it handles.
PyObject* call_in_catch(PyObject* function)
{
    try {
        throw std::runtime_error("handled around a call");
    } catch (const std::runtime_error&) {
        Ref result(PyObject_CallNoArgs(function));
        try {
            throw;
        } catch (const std::runtime_error& again) {
            return Py_BuildValue("(Os)", result.get(), again.what());
        }
    }
}

// Runs a function in a greenlet made here. Its Python exception crosses this function's frames as a
// C++ exception.
PyObject* run_in_greenlet(PyObject* function)
{
    Ref greenlet(reinterpret_cast<PyObject*>(PyGreenlet_New(function, nullptr)));
    Guard guard;
    PyObject* result =
        PyGreenlet_Switch(reinterpret_cast<PyGreenlet*>(greenlet.get()), nullptr, nullptr);
    if (result == nullptr) {
        throw PythonError();
    }
    return result;
}

// Waits for numbers until it is thrown into. The Python exception leaves as a C++ exception.
PyObject* wait_forever(PyObject*)
{
    Guard guard;
    for (long number = 0;; ++number) {
        pause_and_drop(number);
    }
}

PyObject* raise_std(PyObject*) { throw std::runtime_error("left the greenlet"); }

PyObject* count_alive(PyObject*) { return PyLong_FromLong(alive); }

PyMethodDef methods[] = {
    {"switch_before_throw", method<switch_before_throw>, METH_O, nullptr},
    {"switch_in_catch", method<switch_in_catch>, METH_O, nullptr},
    {"switch_while_unwinding", method<switch_while_unwinding>, METH_O, nullptr},
    {"state", method<state>, METH_NOARGS, nullptr},
    {"call_in_catch", method<call_in_catch>, METH_O, nullptr},
    {"run_in_greenlet", method<run_in_greenlet>, METH_O, nullptr},
    {"wait_forever", method<wait_forever>, METH_NOARGS, nullptr},
    {"raise_std", method<raise_std>, METH_NOARGS, nullptr},
    {"raise_uncaught", unguarded_method<raise_std>, METH_NOARGS, nullptr},
    {"count_alive", method<count_alive>, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "throwing", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr,
};

}  // namespace

PyMODINIT_FUNC PyInit_throwing()
{
    PyGreenlet_Import();
    if (_PyGreenlet_API == nullptr) {
        return nullptr;
    }
    return PyModule_Create(&definition);
}
