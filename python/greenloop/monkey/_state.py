"""What has been replaced, and how to ask for it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, overload

#: The originals: by name of the module, then of the attribute. Classes whose attributes have been
#: replaced stand here too, as "module.Class".
saved: dict[str, dict[str, Any]] = {}


class _Absent:
    """Stands in `saved` for the original of an attribute that did not exist."""

    def __repr__(self) -> str:
        return "<absent>"


ABSENT = _Absent()


def is_module_patched(mod_name: str) -> bool:
    """Return whether anything in a module has been replaced.

    mod_name: the module's name, "socket" for example.
    """
    return mod_name in saved


def is_object_patched(mod_name: str, item_name: str) -> bool:
    """Return whether an attribute of a module has been replaced by a cooperative version, or has
    become one as it is.

    mod_name: the module's name, "socket" for example.
    item_name: the attribute's name, "create_connection" for example.
    """
    return item_name in saved.get(mod_name, {})


def is_anything_patched() -> bool:
    """Return whether anything has been replaced at all."""
    return bool(saved)


@overload
def get_original(mod_name: str | Sequence[str], item_name: str) -> Any: ...
@overload
def get_original(mod_name: str | Sequence[str], item_name: Sequence[str]) -> list[Any]: ...
def get_original(mod_name: str | Sequence[str], item_name: str | Sequence[str]) -> Any:
    """Return attributes of a module as they were before they were replaced, if they were.

    mod_name: the module's name; or several, of which the first counts that can be imported.
    item_name: the attribute's name; or several, which makes the result a list.

    Raises ImportError if there is no such module, AttributeError if it has, or had, no such
    attribute.
    """
    names = [mod_name] if isinstance(mod_name, str) else list(mod_name)
    if not names:
        raise ImportError("no module is named")
    for position, name in enumerate(names):
        try:
            module = importlib.import_module(name)
            break
        except ImportError:
            if position == len(names) - 1:
                raise
    if isinstance(item_name, str):
        return _original(name, module, item_name)
    return [_original(name, module, item) for item in item_name]


def _original(mod_name: str, module: Any, item_name: str) -> Any:
    originals = saved.get(mod_name, {})
    if item_name not in originals:
        return getattr(module, item_name)
    original = originals[item_name]
    if original is ABSENT:
        raise AttributeError(f"module {mod_name!r} had no attribute {item_name!r}")
    return original
