/* The C interface of greenlets: making them and switching between them from C and C++.
 *
 *     #include <greenlet/greenlet.h>          (compile with -I of greenloop.get_include())
 *
 *     PyGreenlet_Import();                    (once in each source file that uses the interface)
 *     if (_PyGreenlet_API == NULL) {
 *         return NULL;                        (ImportError or another exception is set)
 *     }
 *
 * What this header declares is what the greenlet package's header does, to the byte: an extension
 * that was compiled with either runs on either. It asks for the module `greenlet` when it is
 * imported, so it is the program that decides which one it gets. An extension that wants
 * greenloop's greenlets in any case defines PyGreenlet_CAPSULE as "greenloop._C_API" before the
 * header is included.
 *
 * All functions need the GIL. References: arguments are borrowed, results are new, unless it says
 * otherwise. Functions that return a pointer return NULL with an exception set when they fail,
 * functions that return an int return -1. A greenlet argument that is NULL or no greenlet is a
 * TypeError.
 */
#ifndef Py_GREENLETOBJECT_H
#define Py_GREENLETOBJECT_H

#include <Python.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A constant of the interface, not the version of anything. */
#define GREENLET_VERSION "1.0.0"

#define implementation_ptr_t void *

/* What C may know of a greenlet. An object is larger than this: a type that derives from
 * PyGreenlet_Type in C (by PyType_FromSpecWithBases) has its fields behind
 * PyGreenlet_Type.tp_basicsize bytes, not behind sizeof(PyGreenlet). */
typedef struct _greenlet {
    PyObject_HEAD
    PyObject *weakreflist;
    PyObject *dict;
    implementation_ptr_t pimpl;
} PyGreenlet;

/* Places in the table that the capsule points to. */
#define PyGreenlet_Type_NUM 0
#define PyExc_GreenletError_NUM 1
#define PyExc_GreenletExit_NUM 2
#define PyGreenlet_New_NUM 3
#define PyGreenlet_GetCurrent_NUM 4
#define PyGreenlet_Throw_NUM 5
#define PyGreenlet_Switch_NUM 6
#define PyGreenlet_SetParent_NUM 7
#define PyGreenlet_MAIN_NUM 8
#define PyGreenlet_STARTED_NUM 9
#define PyGreenlet_ACTIVE_NUM 10
#define PyGreenlet_GET_PARENT_NUM 11

#define PyGreenlet_API_pointers 12

/* The table, for this source file: NULL until PyGreenlet_Import() has succeeded. */
#if defined(__GNUC__)
__attribute__((unused))
#endif
static void **_PyGreenlet_API = NULL;

#ifndef PyGreenlet_CAPSULE
#define PyGreenlet_CAPSULE "greenlet._C_API"
#endif

/* A statement. Imports the module and fetches the table; when that fails, _PyGreenlet_API is NULL
 * and an exception is set. */
#define PyGreenlet_Import()                                                       \
    {                                                                             \
        _PyGreenlet_API = (void **)PyCapsule_Import(PyGreenlet_CAPSULE, 0);       \
    }

/* greenlet.greenlet, greenlet.error and greenlet.GreenletExit. */
#define PyGreenlet_Type (*(PyTypeObject *)_PyGreenlet_API[PyGreenlet_Type_NUM])
#define PyExc_GreenletError ((PyObject *)_PyGreenlet_API[PyExc_GreenletError_NUM])
#define PyExc_GreenletExit ((PyObject *)_PyGreenlet_API[PyExc_GreenletExit_NUM])

/* Whether a pointer is not NULL and is a greenlet, of a subclass perhaps. */
#define PyGreenlet_Check(op) ((op) && PyObject_TypeCheck((PyObject *)(op), &PyGreenlet_Type))

/* PyGreenlet *PyGreenlet_New(PyObject *run, PyGreenlet *parent)
 *
 * greenlet.greenlet(run, parent). Both may be NULL: `run` can be set as an attribute later, the
 * parent is the current greenlet by default. */
#define PyGreenlet_New                                   \
    (*(PyGreenlet * (*)(PyObject * run, PyGreenlet * parent)) \
         _PyGreenlet_API[PyGreenlet_New_NUM])

/* PyGreenlet *PyGreenlet_GetCurrent(void)
 *
 * greenlet.getcurrent() */
#define PyGreenlet_GetCurrent \
    (*(PyGreenlet * (*)(void)) _PyGreenlet_API[PyGreenlet_GetCurrent_NUM])

/* PyObject *PyGreenlet_Throw(PyGreenlet *g, PyObject *typ, PyObject *val, PyObject *tb)
 *
 * g.throw(typ, val, tb). `typ` is an exception class or instance. `val` and `tb` may be NULL. */
#define PyGreenlet_Throw                                                                       \
    (*(PyObject * (*)(PyGreenlet * self, PyObject * typ, PyObject * val, PyObject * tb)) \
         _PyGreenlet_API[PyGreenlet_Throw_NUM])

/* PyObject *PyGreenlet_Switch(PyGreenlet *g, PyObject *args, PyObject *kwargs)
 *
 * g.switch(*args, **kwargs). `args` is a tuple, NULL for an empty one; `kwargs` is a dict, NULL for
 * none. */
#define PyGreenlet_Switch                                                             \
    (*(PyObject * (*)(PyGreenlet * self, PyObject * args, PyObject * kwargs)) \
         _PyGreenlet_API[PyGreenlet_Switch_NUM])

/* int PyGreenlet_SetParent(PyGreenlet *g, PyGreenlet *parent)
 *
 * g.parent = parent. 0, or -1 with an exception set. */
#define PyGreenlet_SetParent                                       \
    (*(int (*)(PyGreenlet * self, PyGreenlet * parent)) \
         _PyGreenlet_API[PyGreenlet_SetParent_NUM])

/* PyGreenlet *PyGreenlet_GetParent(PyGreenlet *g)
 *
 * g.parent. NULL without an exception for a main greenlet, which has none. */
#define PyGreenlet_GetParent \
    (*(PyGreenlet * (*)(PyGreenlet *)) _PyGreenlet_API[PyGreenlet_GET_PARENT_NUM])
#define PyGreenlet_GET_PARENT PyGreenlet_GetParent

/* int PyGreenlet_MAIN(PyGreenlet *g)
 *
 * Whether it is the main greenlet of a thread. */
#define PyGreenlet_MAIN (*(int (*)(PyGreenlet *)) _PyGreenlet_API[PyGreenlet_MAIN_NUM])

/* int PyGreenlet_STARTED(PyGreenlet *g)
 *
 * Whether it has been switched to. True of one that has ended, too. */
#define PyGreenlet_STARTED (*(int (*)(PyGreenlet *)) _PyGreenlet_API[PyGreenlet_STARTED_NUM])

/* int PyGreenlet_ACTIVE(PyGreenlet *g)
 *
 * Whether it has been switched to and has not ended. */
#define PyGreenlet_ACTIVE (*(int (*)(PyGreenlet *)) _PyGreenlet_API[PyGreenlet_ACTIVE_NUM])

#ifdef __cplusplus
}
#endif

#endif
