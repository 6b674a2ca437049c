"""Which files a program is made of, and whether they have changed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

__all__ = ["FileWatch"]


class FileWatch:
    """Watches the files of imported modules, by looking at them now and then.

    That sees what editors do on any file system, in containers too.

    more: other files.
    """

    def __init__(self, more: Iterable[str] = ()) -> None:
        self._more = [os.path.abspath(path) for path in more]
        self._seen: dict[str, tuple[int, int, int] | None] = {}
        self.changed()

    def changed(self) -> str | None:
        """The file that has changed since it was asked for the last time; None for none. Files of
        modules that were imported meanwhile are watched from then on."""
        found = None
        for path in {*_module_files(), *self._more}:
            state = _state(path)
            if path in self._seen and self._seen[path] != state:
                found = path
            self._seen[path] = state
        return found


def _state(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _module_files() -> set[str]:
    files = set()
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str):
            files.add(path)
    return files
