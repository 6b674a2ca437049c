"""Descriptors and other small things of gevent._util that packages use."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from functools import update_wrapper
from types import ModuleType
from typing import Any, Generic, TypeVar, overload

__all__ = ["Lazy", "LazyOnClass", "copy_globals", "gmctime", "readproperty", "update_wrapper"]

_T = TypeVar("_T")


class _Default:
    """The type of a mark for arguments that are not given, where None has a meaning."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<default value>"


_NONE = _Default()


class Lazy(Generic[_T]):
    """An attribute that a function makes when it is first read. It can be assigned and deleted.

    func: called with the instance; its name has to be that of the attribute.
    """

    def __init__(self, func: Callable[[Any], _T]) -> None:
        self._func = func
        update_wrapper(self, func)  # type: ignore[arg-type]

    @overload
    def __get__(self, inst: None, class_: type) -> Lazy[_T]: ...
    @overload
    def __get__(self, inst: object, class_: type) -> _T: ...
    def __get__(self, inst: object | None, class_: type) -> Lazy[_T] | _T:
        if inst is None:
            return self
        value = vars(inst)[self._func.__name__] = self._func(inst)
        return value


class readproperty(Generic[_T]):  # noqa: N801 - gevent's name for it
    """An attribute that a function makes whenever it is read, until it is assigned.

    func: called with the instance.
    """

    def __init__(self, func: Callable[[Any], _T]) -> None:
        self._func = func
        update_wrapper(self, func)  # type: ignore[arg-type]

    @overload
    def __get__(self, inst: None, class_: type) -> readproperty[_T]: ...
    @overload
    def __get__(self, inst: object, class_: type) -> _T: ...
    def __get__(self, inst: object | None, class_: type) -> readproperty[_T] | _T:
        return self if inst is None else self._func(inst)


class LazyOnClass(Generic[_T]):
    """A class attribute that a function makes when an instance first reads it.

    func: called with the instance.
    name: the attribute's name; that of the function unless given.
    """

    @classmethod
    def lazy(cls, cls_dict: dict[str, Any], func: Callable[[Any], Any]) -> None:
        """Put such an attribute, with the function's name, into the namespace of a class."""
        cls_dict[func.__name__] = cls(func)

    def __init__(self, func: Callable[[Any], _T], name: str | None = None) -> None:
        self.name = name or func.__name__
        self.func = func

    @overload
    def __get__(self, inst: None, klass: type) -> LazyOnClass[_T]: ...
    @overload
    def __get__(self, inst: object, klass: type) -> _T: ...
    def __get__(self, inst: object | None, klass: type) -> LazyOnClass[_T] | _T:
        if inst is None:
            return self
        value = self.func(inst)
        setattr(klass, self.name, value)
        return value


def copy_globals(
    source: ModuleType,
    globs: dict[str, Any],
    only_names: Iterable[str] | None = None,
    ignore_missing_names: bool = False,
    names_to_ignore: Collection[str] = (),
    dunder_names_to_keep: Collection[str] = ("__implements__", "__all__", "__imports__"),
    cleanup_globs: bool = True,
) -> list[str]:
    """Copy attributes of a module into a namespace.

    source: the module.
    globs: the namespace.
    only_names: what to copy; None for all.
    ignore_missing_names: leave out what the module does not have, instead of raising
        AttributeError.
    names_to_ignore: what not to copy.
    dunder_names_to_keep: names that begin with two underscores which are copied nevertheless.
    cleanup_globs: taken for compatibility.

    Returns the names of what was copied.
    """
    copied = []
    for name in vars(source) if only_names is None else only_names:
        if name in names_to_ignore or (name.startswith("__") and name not in dunder_names_to_keep):
            continue
        if ignore_missing_names and not hasattr(source, name):
            continue
        globs[name] = getattr(source, name)
        copied.append(name)
    return copied


def gmctime() -> str:
    """Return the time now, in UTC, as "2030-01-31T12:00:00Z"."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
