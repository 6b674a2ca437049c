"""Standard modules that hold what other standard modules define.

`from _thread import RLock` makes a second name for one object, in the importing module. Replacing
the first name leaves the second as it is. Within the standard library such names are found here,
whatever they are called, so that it makes no difference which of its modules were imported before
patching. Names in modules of the program are the program's own business: it may have taken them
early in order to have the originals.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

from greenloop.monkey._announce import will_patch
from greenloop.monkey._items import patch_item, patch_module
from greenloop.monkey._wrappers import wrapped_by


def standard_modules() -> Iterator[ModuleType]:
    """The imported modules of the standard library that are written in Python.

    Those written in C are left out: what they define is their own, not an alias.
    """
    for name, module in list(sys.modules.items()):
        if (
            name.partition(".")[0] in sys.stdlib_module_names
            and isinstance(module, ModuleType)
            and (getattr(module, "__file__", None) or "").endswith((".py", ".pyc"))
        ):
            yield module


def patch_everywhere(
    target_module: ModuleType,
    source_module: ModuleType,
    items: Iterable[str] | None = None,
    skip: Collection[str] = (),
) -> None:
    """Replace attributes of a standard module, also where other standard modules have them.

    target_module, source_module, items: as for `patch_module`.
    skip: names of modules to leave alone.

    Raises DoNotPatch if a subscriber of `greenloop.events` objects.
    """
    names = will_patch(
        target_module, source_module, source_module.__implements__ if items is None else items
    )
    replace_aliases(
        target_module, {name: getattr(source_module, name) for name in names}, skip=skip
    )
    patch_module(target_module, source_module, names, _notify_will_event=False)


def replace_aliases(
    module: ModuleType, replacements: Mapping[str, Any], skip: Collection[str] = ()
) -> None:
    """Replace objects of one module wherever other standard modules refer to them.

    module: the module that defines them, before it is patched itself.
    replacements: what comes in their place, by name in *module*.
    skip: names of modules to leave alone.
    """
    originals: dict[int, Any] = {}
    for name, replacement in replacements.items():
        original = wrapped_by(vars(module).get(name))
        if original is not None and original is not replacement:
            originals[id(original)] = replacement
    if not originals:
        return
    for user in standard_modules():
        if user is module or user.__name__ in skip:
            continue
        for name, value in list(vars(user).items()):
            original = wrapped_by(value)
            if id(original) in originals:
                patch_item(user, name, originals[id(original)])
            elif isinstance(value, FunctionType):
                _replace_defaults(value, originals)
            elif isinstance(value, type) and value.__module__ == user.__name__:
                _replace_in_class(value, originals)


def _replace_in_class(kind: type, originals: Mapping[int, Any]) -> None:
    """Replace attributes of a class. (`selectors.PollSelector` has select.poll as one.)"""
    for name, value in list(vars(kind).items()):
        if id(value) in originals:
            replacement = originals[id(value)]
            if isinstance(replacement, FunctionType):
                # The original is no method, as functions written in C are not.
                replacement = staticmethod(replacement)
            patch_item(kind, name, replacement)
        elif isinstance(value, FunctionType):
            _replace_defaults(value, originals)


def _replace_defaults(function: FunctionType, originals: Mapping[int, Any]) -> None:
    """Replace default values of arguments. (`sched.scheduler` has time.sleep as one.)"""
    defaults = function.__defaults__
    if defaults and any(id(value) in originals for value in defaults):
        function.__defaults__ = tuple(originals.get(id(value), value) for value in defaults)
    keywords = function.__kwdefaults__ or {}
    for name, value in keywords.items():
        if id(value) in originals:
            keywords[name] = originals[id(value)]
