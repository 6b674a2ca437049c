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
from greenloop.monkey._wrappers import rewrap, wrapped_by

#: What has been put in the place of the originals, and in which module: by name as in `saved`. (A
#: module that was imported afresh has the name of the one before.)
_installed: dict[tuple[str, str], tuple[ModuleType | type, Any]] = {}


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


_HERE = warn.__code__.co_filename.rpartition("/")[0] + "/"


def _key(target: ModuleType | type) -> str:
    if isinstance(target, ModuleType):
        return target.__name__
    return f"{target.__module__}.{target.__qualname__}"


def patch_item(module: ModuleType | type, attr: str, newitem: Any) -> None:
    """Replace an attribute, and remember the original unless one is remembered already.

    module: the module, or a class.
    attr: the attribute's name. It need not exist.
    newitem: the new value.

    Wrappers that others have put there stay, whether they did so before or after it was replaced.
    If one cannot, as what it wraps cannot be replaced, a MonkeyPatchWarning is issued.
    """
    current = vars(module).get(attr, ABSENT)
    if current is newitem:
        return
    key = _key(module)
    original = wrapped_by(current)
    if original is newitem or (
        _installed.get((key, attr)) == (module, newitem)
        and original is not saved.get(key, {}).get(attr, ABSENT)
    ):
        # It is there, below what somebody has put over it since.
        return
    saved.setdefault(key, {}).setdefault(attr, original)
    _installed[key, attr] = (module, newitem)
    if current is not original:
        if rewrap(current, original, newitem):
            return
        warn(
            f"{key}.{attr} has been wrapped by {current!r}, which patching has replaced, as there "
            "is no place in it where the original could be replaced. To keep it, patch before it "
            "is put there, or make it with wrapt, or with functools.wraps of what it has in a "
            "closure."
        )
    setattr(module, attr, newitem)


def keep_item(module: ModuleType, attr: str) -> None:
    """Record that an attribute has become cooperative as it is, by what it is made of.

    module: the module.
    attr: the attribute's name.
    """
    saved.setdefault(_key(module), {}).setdefault(attr, getattr(module, attr))


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
        names that it may change, and may raise `greenloop.events.DoNotPatch`. `warn` takes a text
        and issues a warning.
    items: the names; None for those of `__implements__`.

    Subscribers of `greenloop.events` are told before and after, and may object. The functions of
    the source are called first.

    Returns True, or False if one objects. Raises AttributeError if the source has no
    `__implements__` and *items* is None, or lacks one of the names.
    """
    if items is None:
        items = getattr(source_module, "__implements__", None)
        if items is None:
            raise AttributeError(
                f"module {source_module.__name__!r} has no __implements__: set it to the names to "
                "replace, or pass them as items"
            )
    names = list(items)
    kwargs = {} if _patch_kwargs is None else _patch_kwargs
    try:
        if _call_hooks:
            _call(source_module, "_gevent_will_monkey_patch", target_module, names, kwargs)
        if _notify_will_event:
            names = will_patch(target_module, source_module, names)
    except DoNotPatch:
        return False
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
