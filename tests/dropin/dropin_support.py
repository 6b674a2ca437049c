"""The types that the fixtures of these tests hand out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# Seconds. A hang guard, not a statement about speed.
TIMEOUT = 60.0


@dataclass(frozen=True)
class Run:
    """How a process ended."""

    returncode: int
    stdout: str
    stderr: str

    def out(self) -> str:
        """Fail the test unless the process ended well and said nothing on stderr."""
        assert (self.returncode, self.stderr) == (0, ""), self
        return self.stdout


class Python(Protocol):
    """The type of the `python` fixture."""

    def __call__(
        self, *args: str | Path, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Run: ...


class Write(Protocol):
    """The type of the `write` fixture."""

    def __call__(self, name: str, source: str) -> Path: ...
