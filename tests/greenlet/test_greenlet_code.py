"""Imports, compilation and exec inside greenlets."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from greenlet import greenlet
from greenlet_support import park


def test_exec_and_eval() -> None:
    def body() -> Any:
        scope: dict[str, Any] = {"park": park}
        exec("def f(n):\n    return [park(i) for i in range(n)]\n", scope)
        return eval("f(3)", scope)

    g = greenlet(body)
    assert g.switch() == 0
    assert g.switch("a") == 1
    assert g.switch("b") == 2
    assert g.switch("c") == ["a", "b", "c"]


def test_compile_a_large_module() -> None:
    source = "\n".join(f"def f{i}(a, b={i}):\n    return (a + b) * {i}" for i in range(300))

    def body() -> Any:
        scope: dict[str, Any] = {}
        exec(compile(source, "<large>", "exec"), scope)
        return scope["f299"](1)

    assert greenlet(body).switch() == 300 * 299


def test_parse_of_nested_source() -> None:
    source = "[" * 80 + "1" + "]" * 80
    assert greenlet(lambda: ast.dump(ast.parse(source))).switch() == ast.dump(ast.parse(source))


def test_syntax_error_reaches_the_parent() -> None:
    with pytest.raises(SyntaxError):
        greenlet(lambda: compile("def (", "<broken>", "exec")).switch()


def test_import_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "greenlet_test_plain.py").write_text("import json, decimal\nVALUE = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        module = greenlet(lambda: importlib.import_module("greenlet_test_plain")).switch()
        assert module.VALUE == 42
        assert sys.modules["greenlet_test_plain"] is module
    finally:
        sys.modules.pop("greenlet_test_plain", None)


def test_module_body_that_switches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "greenlet_test_parks.py").write_text(
        "from greenlet import getcurrent\nVALUE = getcurrent().parent.switch('importing')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        g = greenlet(lambda: importlib.import_module("greenlet_test_parks").VALUE)
        assert g.switch() == "importing"
        assert g.switch("imported") == "imported"
    finally:
        sys.modules.pop("greenlet_test_parks", None)


def test_failing_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "greenlet_test_fails.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ZeroDivisionError):
        greenlet(lambda: importlib.import_module("greenlet_test_fails")).switch()
    assert "greenlet_test_fails" not in sys.modules


def test_classes_made_inside() -> None:
    def body() -> Any:
        class Meta(type):
            def __new__(mcs, *args: Any) -> Any:
                park("in metaclass")
                return super().__new__(mcs, *args)

        class Made(metaclass=Meta):
            value = park("in class body")

        return Made

    g = greenlet(body)
    assert g.switch() == "in class body"
    assert g.switch(7) == "in metaclass"
    assert g.switch().value == 7
