"""Patches of modules that the program may import later, or never, or again.

The base classes in importlib.abc add nothing but import time: 11 ms of 60.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from importlib.abc import Loader


def when_imported(name: str, patch: Callable[[ModuleType], object], *, again: bool = False) -> None:
    """Call *patch* with the module *name*: now if it is there, else when it has been imported.

    again: call it also for modules that come in its place, as after `del sys.modules[name]`.
    """
    module = sys.modules.get(name)
    if module is not None:
        patch(module)
    if module is None or again:
        sys.meta_path.insert(0, _Watcher(name, patch, again))


class _Watcher:
    """Lets the other finders find one module, and patches it once it is loaded."""

    def __init__(self, name: str, patch: Callable[[ModuleType], object], again: bool) -> None:
        self.name = name
        self.patch = patch
        self.again = again

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name or self not in sys.meta_path:
            return None
        if not self.again:
            sys.meta_path.remove(self)
        for finder in list(sys.meta_path):
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = cast("Loader", _PatchingLoader(spec.loader, self.patch))
                return spec
        return None


class _PatchingLoader:
    """A loader's stand-in for one import. The module knows the loader itself."""

    def __init__(self, loader: Any, patch: Callable[[ModuleType], object]) -> None:
        self.loader = loader
        self.patch = patch

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        spec.loader = self.loader
        module: ModuleType | None = self.loader.create_module(spec)
        # Read again by the machinery, which goes on to execute the module.
        spec.loader = cast("Loader", self)
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        self.patch(module)
