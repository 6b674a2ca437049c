"""Compiles the extensions in `extensions/` against the header of the implementation under test."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from capi_compiler import build_module, load_module

SOURCES = Path(__file__).with_name("extensions")


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Build an extension from a file of `extensions/`, and return the path of the module."""
    directory = tmp_path_factory.mktemp("extensions")

    @functools.cache
    def build(file: str) -> Path:
        return build_module(SOURCES / file, directory)

    return build


@pytest.fixture(scope="session")
def load(build: Callable[[str], Path]) -> Callable[[str], ModuleType]:
    """Build an extension and import it."""

    @functools.cache
    def load(file: str) -> ModuleType:
        return load_module(build(file))

    return load


@pytest.fixture(scope="session")
def interface(load: Callable[[str], ModuleType]) -> ModuleType:
    """Each function of the interface as a Python function."""
    return load("interface.c")


@pytest.fixture(scope="session")
def throwing(load: Callable[[str], ModuleType]) -> ModuleType:
    """C++ that throws and catches in greenlets."""
    return load("throwing.cpp")
