"""Replacing attributes of modules, and remembering what they were."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable
from types import FrameType, ModuleType
from typing import Any

from greenloop.events import DoNotPatch
from greenloop.monkey._announce import did_patch, will_patch
from greenloop.monkey._state import ABSENT, saved


class MonkeyPatchWarning(RuntimeWarning):
    """The category of the warnings about patching."""


def warn(message: str) -> None:
    """Issue a MonkeyPatchWarning that points at the program's call of a function in here."""
    level = 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        level += 1
        frame = frame.f_back
    warnings.warn(message, MonkeyPatchWarning, stacklevel=level)


_HERE = __file__.rpartition("/")[0] + "/"


def _key(target: ModuleType | type) -> str:
    if isinstance(target, ModuleType):
        return target.__name__
    return f"{target.__module__}.{target.__qualname__}"


def patch_item(module: ModuleType | type, attr: str, newitem: Any) -> None:
    """Replace an attribute, and remember the original unless one is remembered already.

    module: the module, or a class.
    attr: the attribute's name. It need not exist.
    newitem: the new value.
    """
    original = vars(module).get(attr, ABSENT)
    if original is newitem:
        return
    saved.setdefault(_key(module), {}).setdefault(attr, original)
    setattr(module, attr, newitem)


def remove_item(module: ModuleType | type, attr: str) -> None:
    """Delete an attribute if it exists, and remember the original.

    module: the module, or a class.
    attr: the attribute's name.
    """
    original = vars(module).get(attr, ABSENT)
    if original is ABSENT:
        return
    saved.setdefault(_key(module), {}).setdefault(attr, original)
    delattr(module, attr)


def patch_module(
    target_module: ModuleType,
    source_module: ModuleType,
    items: Iterable[str] | None = None,
    *,
    _patch_kwargs: dict[str, Any] | None = None,
    _call_hooks: bool = True,
    _notify_will_event: bool = True,
    _notify_did_event: bool = True,
) -> bool:
    """Replace attributes of one module by those of the same name of another.

    target_module: where to replace them.
    source_module: where to take them from. It may define `__implements__`, the names to replace,
        and the functions `_gevent_will_monkey_patch(target_module, items, warn, **kwargs)` and
        `_gevent_did_monkey_patch(...)`, to be called before and after. The first gets a list of
        names that it may change. `warn` takes a text and issues a warning.
    items: the names; None for those of `__implements__`.

    Subscribers of `greenloop.events` are told before and after, and may object.

    Returns True, or False if one objects. Raises AttributeError if the source has no
    `__implements__` and *items* is None, or lacks one of the names.
    """
    if items is None:
        items = source_module.__implements__
    names = list(items)
    if _notify_will_event:
        try:
            names = will_patch(target_module, source_module, names)
        except DoNotPatch:
            return False
    kwargs = {} if _patch_kwargs is None else _patch_kwargs
    if _call_hooks:
        _call(source_module, "_gevent_will_monkey_patch", target_module, names, kwargs)
    replacements = [(name, getattr(source_module, name)) for name in names]
    for name, replacement in replacements:
        patch_item(target_module, name, replacement)
    if _call_hooks:
        _call(source_module, "_gevent_did_monkey_patch", target_module, names, kwargs)
    if _notify_did_event:
        did_patch(target_module, source_module)
    return True


def _call(
    source: ModuleType, hook: str, target: ModuleType, names: list[str], kwargs: dict[str, Any]
) -> None:
    function: Callable[..., object] | None = getattr(source, hook, None)
    if function is not None:
        function(target, names, warn, **kwargs)
