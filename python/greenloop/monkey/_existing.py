"""Locks and the like that were made before patching.

A native lock blocks the whole native thread. If one greenlet holds it while another wants it,
that is a deadlock, so those that nobody holds are replaced. Who refers to them is found through
the garbage collector. One is replaced only if all its references are accounted for, as otherwise
two parties would exclude each other with different locks.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Callable, Mapping
from types import BuiltinMethodType, CellType, MemberDescriptorType, ModuleType
from typing import Any

#: Makes the replacement of an object; None if the object is in use and has to stay.
Maker = Callable[[Any], Any]

_Setter = Callable[[Any], None]


def replace_referenced(makers: Mapping[type, Maker]) -> int:
    """Replace objects wherever they are referred to. To be called while no other thread runs.

    makers: for each type whose instances are to be replaced, what makes the replacement.
        Instances of subclasses are left alone.

    Returns how many were replaced.
    """
    references = _References(makers)
    return sum(references.replace(number) for number in references.numbers())


class _References:
    """Objects of some types, and everything that refers to them."""

    def __init__(self, makers: Mapping[type, Maker]) -> None:
        self.makers = makers
        #: By id(): the objects, and bound methods of them such as Condition.acquire.
        self.found: dict[int, Any] = {}
        #: By id(): what refers to it, once for every reference.
        self.holders: dict[int, list[Any]] = {}
        #: By id(): whose attributes a dictionary holds. It must not be changed behind the back of
        #: the class.
        self.classes: dict[int, type] = {}
        self._collect()
        self._spare = self._references_of_none()

    def _collect(self) -> None:
        objects = gc.get_objects()
        for item in objects:
            if type(item) in self.makers or (
                type(item) is BuiltinMethodType and type(item.__self__) in self.makers
            ):
                self.found[id(item)] = item
                self.holders[id(item)] = []
        ours = {id(objects), id(self.found), id(self.holders)}
        for item in objects:
            # What a module refers to beside its dictionary, which is an object of its own, could
            # not be replaced. And asking may corrupt memory: from 3.12 on `_asyncio` shows freed
            # objects that it keeps for later use, which get freed a second time.
            if id(item) in ours or issubclass(type(item), ModuleType):
                continue
            for referent in gc.get_referents(item):
                if id(referent) in self.found:
                    self.holders[id(referent)].append(item)
                elif type(referent) is dict and isinstance(item, type):
                    self.classes[id(referent)] = item

    def _references_of_none(self) -> int:
        """What getrefcount says in `_all_known` of an object that nobody else refers to."""
        self.found[0] = object()
        count = sys.getrefcount(self.found[0])
        del self.found[0]
        return count

    def numbers(self) -> list[int]:
        """The id() of each object that may be replaced."""
        return [number for number, item in self.found.items() if type(item) in self.makers]

    def _all_known(self, number: int, extra: int = 0) -> bool:
        known = len(self.holders[number]) + self._spare + extra
        return sys.getrefcount(self.found[number]) == known

    def replace(self, number: int) -> bool:
        """Replace an object, if that can be done everywhere."""
        if not self._all_known(number):
            return False
        # No variable may be left that refers to a holder: it would be counted below.
        setters: list[tuple[_Setter | None, str | None]] = [
            (self._place(holder, number), None)
            for holder in self.holders[number]
            if type(holder) is not BuiltinMethodType
        ]
        for method, name in self._methods(number):
            # One more: it is in the list of what refers to the object.
            if not self._all_known(method, 1):
                return False
            for user in {id(user): user for user in self.holders[method]}.values():
                setters.append((self._place(user, method), name))  # noqa: PERF401
        if any(setter is None for setter, _ in setters):
            return False
        new = self.makers[type(self.found[number])](self.found[number])
        if new is None:
            return False
        for setter, attribute in setters:
            assert setter is not None
            setter(new if attribute is None else getattr(new, attribute))
        return True

    def _methods(self, number: int) -> list[tuple[int, str]]:
        return [
            (id(holder), holder.__name__)
            for holder in self.holders[number]
            if type(holder) is BuiltinMethodType
        ]

    def _place(self, holder: Any, number: int) -> _Setter | None:
        """What puts something in the place of all references from one object to another.

        None for kinds of objects in which that cannot be done.
        """
        target = self.found[number]
        if type(holder) is dict:
            keys = [key for key, value in holder.items() if value is target]
            if not keys:
                return None  # it is a key itself
            owner = self.classes.get(id(holder))
            return _item_setter(holder, keys) if owner is None else _class_setter(owner, keys)
        if type(holder) in (list, deque):
            return _item_setter(holder, [i for i, value in enumerate(holder) if value is target])
        if type(holder) is CellType:
            return _cell_setter(holder)
        for kind in type(holder).__mro__:
            for member in vars(kind).values():
                if type(member) is MemberDescriptorType and _is_slot_of(member, holder, target):
                    return _slot_setter(member, holder)
        namespace = _namespace(holder)
        keys = [key for key, value in namespace.items() if value is target]
        return _item_setter(namespace, keys) if keys else None


def _namespace(holder: Any) -> dict[str, Any]:
    """The attributes of an instance, without any code of its class being run."""
    try:
        namespace = object.__getattribute__(holder, "__dict__")
    except AttributeError:
        return {}
    return namespace if type(namespace) is dict else {}


def _is_slot_of(member: MemberDescriptorType, holder: Any, target: Any) -> bool:
    try:
        return member.__get__(holder) is target
    except AttributeError:
        return False


def _item_setter(container: Any, keys: list[Any]) -> _Setter:
    def set_items(new: Any) -> None:
        for key in keys:
            container[key] = new

    return set_items


def _class_setter(owner: type, names: list[str]) -> _Setter:
    def set_attributes(new: Any) -> None:
        for name in names:
            type.__setattr__(owner, name, new)

    return set_attributes


def _cell_setter(cell: CellType) -> _Setter:
    def set_contents(new: Any) -> None:
        cell.cell_contents = new

    return set_contents


def _slot_setter(member: MemberDescriptorType, holder: Any) -> _Setter:
    def set_slot(new: Any) -> None:
        member.__set__(holder, new)

    return set_slot
