"""The meta-path finder and the loader behind `import gevent` and `import greenlet`.

Their base classes in importlib.abc add nothing but import time, and every child process of a
greenloop program pays it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, cast

from . import _names

if TYPE_CHECKING:
    from importlib.abc import Loader
    from importlib.metadata import Distribution, DistributionFinder


class AliasLoader:
    """Loads a module by putting an existing one, as it is, under a second name.

    The import system always writes `__spec__` on the module a loader hands it. So it is handed
    a stand-in, and `exec_module` puts the real module in its place in `sys.modules`.
    """

    def __init__(self, target: str) -> None:
        self.target = target

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        # Imported here, before the stand-in is visible, so the time between the two is a few
        # bytecodes. Another thread that looks in that moment keeps the stand-in: let it answer.
        target = importlib.import_module(self.target)
        stand_in = ModuleType(spec.name, target.__doc__)
        vars(stand_in)["__getattr__"] = functools.partial(getattr, target)
        return stand_in

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = sys.modules[self.target]

    # What follows lets `python -m gevent.x`, pkgutil and inspect read the module without
    # importing it. Each question is for the target's own loader.

    def _ask(self, question: str) -> Any:
        spec = importlib.util.find_spec(self.target)
        if spec is None or not hasattr(spec.loader, question):
            raise ImportError(f"cannot read the code of {self.target}", name=self.target)
        return getattr(spec.loader, question)(self.target)

    def is_package(self, fullname: str) -> bool:
        spec = importlib.util.find_spec(self.target)
        return spec is not None and spec.submodule_search_locations is not None

    def get_code(self, fullname: str) -> CodeType | None:
        code: CodeType | None = self._ask("get_code")
        return code

    def get_source(self, fullname: str) -> str | None:
        source: str | None = self._ask("get_source")
        return source

    def get_filename(self, fullname: str) -> str:
        filename: str = self._ask("get_filename")
        return filename


def _alias_spec(name: str, target: ModuleSpec) -> ModuleSpec:
    is_package = target.submodule_search_locations is not None
    loader = cast("Loader", AliasLoader(target.name))
    spec = ModuleSpec(name, loader, origin=target.origin, is_package=is_package)
    if target.submodule_search_locations is not None:
        spec.submodule_search_locations = list(target.submodule_search_locations)
    return spec


def _search(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """Ask every finder except the drop-in's for *name*, as the import system would."""
    for finder in list(sys.meta_path):
        if isinstance(finder, DropInFinder):
            continue
        find_spec = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find_spec(name, path) if find_spec else None
        if spec is not None:
            return spec
    return None


def _own_spec(name: str, parent_path: Sequence[str] | None) -> ModuleSpec | None:
    """Find the spec of greenloop's module *name*, ignoring directories that a program added.

    *parent_path* is the `__path__` of the package it is imported from, None for an import of a
    top-level name. A module that is already loaded answers with its own spec.
    """
    module = sys.modules.get(name)
    if module is not None:
        return getattr(module, "__spec__", None)
    if name == _names.PACKAGE:
        return _search(name, None)
    own = [entry for entry in parent_path or [_names.HOME] if _names.is_home(entry)]
    return _search(name, own) if own else None


class DropInFinder:
    """Finds greenloop's modules under gevent's and greenlet's names.

    It goes first on `sys.meta_path`, so an installed gevent or greenlet is never reached.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for *fullname*, or None to let the finders after this one look.

        For `gevent.x` that greenloop lacks, the answer is None: the standard path finder then
        looks in `gevent.__path__`, where a program may have appended directories.
        """
        root = fullname.partition(".")[0]
        if root in _names.ROOTS:
            ours = _names.target_name(fullname)
            spec = None if ours is None else _own_spec(ours, path)
            if spec is not None:
                return _alias_spec(fullname, spec)
            if fullname in _names.ROOTS:
                # The finders after this one might know the real package.
                raise ModuleNotFoundError(f"no module named {ours!r}", name=ours)
            return None
        if fullname in _names.EXTRAS:
            extra = importlib.import_module(_names.EXTRAS[fullname]).__spec__
            return None if extra is None else _alias_spec(fullname, extra)
        if root == _names.PACKAGE and path is not None:
            return self._find_added(fullname, path)
        return None

    def _find_added(self, fullname: str, path: Sequence[str]) -> ModuleSpec | None:
        # `from gevent import x` asks for greenloop.x, because the package's __name__ is
        # greenloop. For a module in a directory that the program appended to gevent.__path__
        # that would make a second copy beside gevent.x: give the one under gevent's name.
        added = [entry for entry in path if not _names.is_home(entry)]
        if not added or _own_spec(fullname, path) is not None:
            return None
        name = "gevent" + fullname.removeprefix(_names.PACKAGE)
        module = sys.modules.get(name)
        spec = module.__spec__ if module is not None else _search(name, added)
        return None if spec is None else _alias_spec(fullname, spec)

    def find_distributions(
        self, context: DistributionFinder.Context | None = None
    ) -> Iterable[Distribution]:
        """Answer `importlib.metadata` for "gevent" and "greenlet" when asked by name.

        A listing of everything installed stays a listing of what is on disk.
        """
        from ._metadata import alias_distributions

        return alias_distributions(None if context is None else context.name)
