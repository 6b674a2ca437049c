"""greenlet.h as compilers see it: C and C++, their old and new versions, and what it needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from capi_compiler import build_module, load_module, run_compiler
from greenlet import getcurrent, greenlet

PEER = os.environ.get("GREENLOOP_TEST_PEER") == "1"
greenloops_own = pytest.mark.skipif(PEER, reason="what greenloop promises beyond greenlet")

USES_ALL = """
#include <greenlet/greenlet.h>

PyObject *use(PyObject *object);

PyObject *use(PyObject *object)
{
    PyGreenlet_Import();
    if (_PyGreenlet_API == NULL || !PyGreenlet_Check(object)) {
        return NULL;
    }
    PyGreenlet *greenlet = PyGreenlet_New(object, NULL);
    PyGreenlet *current = PyGreenlet_GetCurrent();
    PyTypeObject *type = &PyGreenlet_Type;
    struct _greenlet *tagged = greenlet;
    if (PyGreenlet_Check(greenlet) && PyGreenlet_MAIN(greenlet) && PyGreenlet_STARTED(greenlet) &&
        PyGreenlet_ACTIVE(greenlet) && type && tagged) {
        PyErr_SetNone(PyGreenlet_SetParent(greenlet, current) ? PyExc_GreenletError
                                                              : PyExc_GreenletExit);
    }
    Py_XDECREF((PyObject *)PyGreenlet_GetParent(greenlet));
    Py_XDECREF((PyObject *)PyGreenlet_GET_PARENT(greenlet));
    Py_XDECREF(PyGreenlet_Throw(greenlet, PyExc_GreenletExit, NULL, NULL));
    return PyGreenlet_Switch(greenlet, NULL, NULL);
}
"""

# The order of the fields, and the numbers, are part of every extension that was compiled.
LAYOUT = """
#include <stddef.h>
#include <greenlet/greenlet.h>

#define CHECK(what) _Static_assert(what, #what)
CHECK(offsetof(PyGreenlet, weakreflist) == sizeof(PyObject));
CHECK(offsetof(PyGreenlet, dict) == sizeof(PyObject) + sizeof(void *));
CHECK(offsetof(PyGreenlet, pimpl) == sizeof(PyObject) + 2 * sizeof(void *));
CHECK(sizeof(PyGreenlet) == sizeof(PyObject) + 3 * sizeof(void *));
CHECK(PyGreenlet_Type_NUM == 0);
CHECK(PyExc_GreenletError_NUM == 1);
CHECK(PyExc_GreenletExit_NUM == 2);
CHECK(PyGreenlet_New_NUM == 3);
CHECK(PyGreenlet_GetCurrent_NUM == 4);
CHECK(PyGreenlet_Throw_NUM == 5);
CHECK(PyGreenlet_Switch_NUM == 6);
CHECK(PyGreenlet_SetParent_NUM == 7);
CHECK(PyGreenlet_MAIN_NUM == 8);
CHECK(PyGreenlet_STARTED_NUM == 9);
CHECK(PyGreenlet_ACTIVE_NUM == 10);
CHECK(PyGreenlet_GET_PARENT_NUM == 11);
CHECK(PyGreenlet_API_pointers == 12);
void **table(void);
void **table(void) { return _PyGreenlet_API; }
"""


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".c", ["-std=c99"]),
        (".c", ["-std=c11", "-O2"]),
        (".c", ["-std=gnu17"]),
        pytest.param(".c", ["-std=c11", "-DPy_LIMITED_API=0x030b0000"], marks=greenloops_own),
        (".cpp", ["-std=c++11"]),
        (".cpp", ["-std=c++17", "-O2"]),
        (".cpp", ["-std=c++20"]),
    ],
)
def test_compiles_without_warnings(tmp_path: Path, suffix: str, options: list[str]) -> None:
    source = tmp_path / f"uses_all{suffix}"
    source.write_text(USES_ALL)
    run_compiler(source, *options, "-c", "-o", tmp_path / "uses_all.o")


def test_layout_and_numbers(tmp_path: Path) -> None:
    source = tmp_path / "layout.c"
    source.write_text(LAYOUT)
    run_compiler(source, "-c", "-o", tmp_path / "layout.o")


def test_example_of_the_documentation(tmp_path: Path) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "c-extensions.md"
    (example,) = re.findall(r"^```c\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    source = tmp_path / "example.c"
    source.write_text(example)
    module = build_module(source, tmp_path, "-Wno-unused-parameter")
    step = load_module(module).step

    def run(value: object) -> None:
        while value != "end":
            value = getcurrent().parent.switch(value)

    g = greenlet(run)
    assert [step(g, value) for value in (1, "two", None, "end")] == [1, "two", None, None]
    with pytest.raises(TypeError):
        step("no greenlet", 1)


@greenloops_own
def test_may_be_included_and_not_used(tmp_path: Path) -> None:
    source = tmp_path / "unused.c"
    source.write_text("#include <greenlet/greenlet.h>\n#include <greenlet/greenlet.h>\n")
    run_compiler(source, "-c", "-o", tmp_path / "unused.o")


# Types that derive in C


def test_derived_type(load: Callable[[str], ModuleType]) -> None:
    kind = load("derived.c").make_counting()

    class Further(kind):  # type: ignore[misc, valid-type]
        def run(self) -> int:
            self.count()
            self.parent.switch(self.count())
            return self.count()

    greenlets = [Further() for _ in range(3)]
    for g in greenlets:
        g.attribute = "kept"
        assert isinstance(g, greenlet)
    assert [g.switch() for g in greenlets] == [2, 2, 2]
    assert [g.switch() for g in greenlets] == [3, 3, 3]
    assert [g.attribute for g in greenlets] == ["kept"] * 3


@greenloops_own
def test_derived_type_that_is_too_small(load: Callable[[str], ModuleType]) -> None:
    """The interpreter looks at the size when the type is made, from 3.12 on."""
    with pytest.raises(TypeError, match=r"derived\.Small"):
        load("derived.c").make_small()()


# Without the drop-in


@greenloops_own
def test_greenloops_own_capsule(tmp_path: Path) -> None:
    """An extension may ask for greenloop's greenlets whatever `greenlet` is in the program."""
    source = tmp_path / "own.c"
    source.write_text(
        """
        #define PyGreenlet_CAPSULE "greenloop._C_API"
        #include <greenlet/greenlet.h>

        static PyObject *current(PyObject *module, PyObject *unused)
        {
            (void)module, (void)unused;
            return (PyObject *)PyGreenlet_GetCurrent();
        }
        static PyMethodDef methods[] = {{"current", current, METH_NOARGS, NULL}, {0}};
        static struct PyModuleDef definition = {
            PyModuleDef_HEAD_INIT, "own", NULL, -1, methods, NULL, NULL, NULL, NULL,
        };
        PyMODINIT_FUNC PyInit_own(void)
        {
            PyGreenlet_Import();
            return _PyGreenlet_API ? PyModule_Create(&definition) : NULL;
        }
        """
    )
    build_module(source, tmp_path, "-Wno-missing-field-initializers")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, own, greenloop\n"
            "assert own.current() is greenloop.getcurrent()\n"
            "assert 'greenlet' not in sys.modules\n",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_import_of_an_extension_without_the_module(
    build: Callable[[str], Path], tmp_path: Path
) -> None:
    """PyGreenlet_Import leaves the exception of the import."""
    path = build("interface.c")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "sys.modules['greenlet'] = None\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "try:\n"
        "    import interface\n"
        "except ImportError as error:\n"
        "    print('greenlet' in str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(path.parent)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
