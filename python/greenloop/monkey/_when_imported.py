"""Patches of modules that the program may import later, or never."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


def when_imported(name: str, patch: Callable[[ModuleType], object]) -> None:
    """Call *patch* with the module *name*: now if it is there, else when it has been imported."""
    module = sys.modules.get(name)
    if module is not None:
        patch(module)
    else:
        sys.meta_path.insert(0, _Watcher(name, patch))


class _Watcher(MetaPathFinder):
    """Lets the other finders find one module, and patches it once it is loaded."""

    def __init__(self, name: str, patch: Callable[[ModuleType], object]) -> None:
        self.name = name
        self.patch = patch

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _PatchingLoader(spec.loader, self.patch)
        return spec


class _PatchingLoader(Loader):
    """A loader's stand-in for one import. The module knows the loader itself."""

    def __init__(self, loader: Any, patch: Callable[[ModuleType], object]) -> None:
        self.loader = loader
        self.patch = patch

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        spec.loader = self.loader
        module: ModuleType | None = self.loader.create_module(spec)
        # Read again by the machinery, which goes on to execute the module.
        spec.loader = self
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        self.patch(module)
