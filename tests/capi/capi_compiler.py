"""How the tests compile C and C++: against the header of the implementation under test."""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

# Seconds. A hang guard for one run of the compiler.
COMPILE_TIMEOUT = 300.0
WARNINGS = ("-Wall", "-Wextra", "-Werror")

# The interpreter's own headers are not under test: no warnings about them.
PYTHON_INCLUDES = [
    option for key in ("include", "platinclude") for option in ("-isystem", sysconfig.get_path(key))
]


def header_directory() -> str:
    """The directory to be searched for <greenlet/greenlet.h>."""
    if os.environ.get("GREENLOOP_TEST_PEER") == "1":
        import greenlet

        return str(Path(greenlet.__file__).parent.parent)
    import greenloop

    return greenloop.get_include()


def compiler(source: Path) -> list[str]:
    """The command that compiles C or C++, by the name of the file."""
    if source.suffix == ".cpp":
        return [*shlex.split(os.environ.get("CXX", "c++")), "-std=c++17"]
    return [*shlex.split(os.environ.get("CC", "cc")), "-std=c11"]


def run_compiler(source: Path, *options: str | Path) -> None:
    """Run the compiler on a file; what it says fails the test."""
    command = [
        *compiler(source),
        *WARNINGS,
        *PYTHON_INCLUDES,
        *("-I", header_directory()),
        *map(str, options),
        str(source),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT, check=False
    )
    if done.returncode != 0:
        pytest.fail(f"{shlex.join(command)}\n{done.stdout}{done.stderr}", pytrace=False)


def build_module(source: Path, directory: Path, *options: str) -> Path:
    """Build an extension from one file, and return the path of the module."""
    module = directory / (source.stem + sysconfig.get_config_var("EXT_SUFFIX"))
    run_compiler(source, "-O2", "-g", "-fPIC", "-shared", *options, "-o", module)
    return module


def load_module(path: Path) -> ModuleType:
    """Import an extension from its file."""
    name = path.name.partition(".")[0]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
