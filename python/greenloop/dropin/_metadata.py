"""What `importlib.metadata` says of gevent and greenlet while greenloop stands in for them.

Packages decide what they can do by `importlib.metadata.version("gevent")`. The answer has to
agree with `gevent.__version__`, and has to come also when neither is installed.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from importlib.metadata import Distribution
from os import PathLike
from pathlib import Path

from ._names import ALIASES, HOME, ROOTS


class AliasDistribution(Distribution):
    """Metadata of a distribution whose modules greenloop provides; it owns no files."""

    def __init__(self, name: str) -> None:
        self._alias = name

    def read_text(self, filename: str) -> str | None:
        if filename != "METADATA":
            return None
        version = importlib.import_module(ALIASES[self._alias]).__version__
        return (
            "Metadata-Version: 2.1\n"
            f"Name: {self._alias}\n"
            f"Version: {version}\n"
            f"Summary: {self._alias}'s API, provided by greenloop\n"
        )

    def locate_file(self, path: str | PathLike[str]) -> Path:
        return Path(HOME).parent / path


def alias_distributions(name: str | None) -> Iterable[Distribution]:
    """Yield the distribution called *name* if it is one greenloop stands in for."""
    if name is not None:
        normalized = re.sub(r"[-_.]+", "-", name).lower()
        if normalized in ROOTS:
            yield AliasDistribution(normalized)
