"""Telling subscribers of greenloop.events what is patched, and heeding their vetoes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

from greenloop import events

_P = ParamSpec("_P")
_R = TypeVar("_R")


def will_patch(target: ModuleType, source: ModuleType, names: Iterable[str]) -> list[str]:
    """Tell that attributes of a module are about to be replaced.

    target: the module.
    source: where the replacements come from.
    names: those of the attributes.

    Returns the names, to which subscribers may have made changes. Raises DoNotPatch if one
    objects.
    """
    items = list(names)
    event = events.GeventWillPatchModuleEvent(target.__name__, source, target, items)
    events.notify_and_call_entry_points(event)
    return items


def did_patch(target: ModuleType, source: ModuleType) -> None:
    """Tell that attributes of a module have been replaced.

    target: the module.
    source: where the replacements come from.
    """
    event = events.GeventDidPatchModuleEvent(target.__name__, source, target)
    events.notify_and_call_entry_points(event)


def vetoable(function: Callable[_P, _R]) -> Callable[_P, _R | None]:
    """Make a function return None if it is ended by DoNotPatch."""

    @functools.wraps(function)
    def patch(*args: _P.args, **kwargs: _P.kwargs) -> _R | None:
        try:
            return function(*args, **kwargs)
        except events.DoNotPatch:
            return None

    return patch


class PatchAll:
    """The events of one call of patch_all.

    arguments: all arguments that it knows.
    kwargs: the others.
    """

    def __init__(self, arguments: dict[str, Any], kwargs: dict[str, Any]) -> None:
        self._arguments = (arguments, kwargs)

    def will(self) -> bool:
        """Tell that patching begins. Returns whether nobody objects."""
        try:
            events.notify_and_call_entry_points(events.GeventWillPatchAllEvent(*self._arguments))
        except events.DoNotPatch:
            return False
        return True

    def did(self) -> None:
        """Tell that the standard library has been patched, and then that all is done."""
        for kind in (events.GeventDidPatchBuiltinModulesEvent, events.GeventDidPatchAllEvent):
            events.notify_and_call_entry_points(kind(*self._arguments))
