"""Attributes that somebody wrapped before they are patched.

Tracers and profilers put a wrapper in the place of `time.sleep`, say, or `threading.Lock`, which
calls the original. If patching replaced the wrapper, the program would lose it; if it left it
alone, the original would go on to block. So the wrapper stays, and what it wraps is replaced.

Two kinds of wrappers let that be done: proxies whose class has an attribute `__wrapped__` that can
be set (those of wrapt), and functions that refer to the original from a closure (those that
`functools.wraps` is used with).
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

#: Kinds of objects that are no wrappers: patching looks at all that standard modules have.
_others: set[type] = {type, staticmethod, classmethod}


def wrapped_by(value: Any) -> Any:
    """Return what a wrapper wraps, the innermost if there are several; *value* if it is none."""
    inner = _inner(value)
    if inner is None:
        return value
    seen = {id(value)}
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        value, inner = inner, _inner(inner)
    return value


def rewrap(wrapper: Any, original: Any, replacement: Any) -> bool:
    """Replace what a wrapper wraps, or what a wrapper in it wraps.

    wrapper: the outermost.
    original: what `wrapped_by` has returned for it.
    replacement: the new value.

    Returns False if there is no place where to do so.
    """
    inner = _inner(wrapper)
    if inner is None:
        return False
    if inner is not original:
        return rewrap(inner, original, replacement)
    if type(wrapper) is not FunctionType:
        wrapper.__wrapped__ = replacement
        return True
    cells = [cell for cell in wrapper.__closure__ or () if _contents(cell) is original]
    for cell in cells:
        cell.cell_contents = replacement
    if cells and "__wrapped__" in vars(wrapper):
        vars(wrapper)["__wrapped__"] = replacement
    return bool(cells)


def _inner(value: Any) -> Any:
    """What a wrapper wraps; None if it is no wrapper."""
    # What it is: a proxy has `isinstance` tell what it wraps.
    kind = type(value)
    if kind in _others:
        return None
    if kind is FunctionType:
        return getattr(value, "__wrapped__", None)
    # Of the class, so that no object is asked that only pretends to have every attribute. Classes,
    # and methods of the interpreter's own kinds, are what is patched, not somebody's wrappers.
    if issubclass(kind, type | staticmethod | classmethod) or not hasattr(kind, "__wrapped__"):
        _others.add(kind)
        return None
    return value.__wrapped__


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None  # it is empty
