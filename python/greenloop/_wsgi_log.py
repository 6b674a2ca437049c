"""Where a WSGI server writes its logs."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from typing import Any

__all__ = ["LoggingLogAdapter", "NoLog", "access_line", "make_log"]


class LoggingLogAdapter:
    """A file whose lines are records of a logger.

    logger: a `logging.Logger`, or any object with a method `log(level, message)`.
    level: that of the records; INFO by default.

    Everything else is the logger's: attributes are read from it, set on it and deleted of it.
    """

    __slots__ = ("_level", "_logger")

    _logger: Any
    _level: int

    def __init__(self, logger: Any, level: int = logging.INFO) -> None:
        object.__setattr__(self, "_logger", logger)
        object.__setattr__(self, "_level", level)

    def write(self, msg: str) -> None:
        """Log a line. Its end is cut off: loggers have their own."""
        self._logger.log(self._level, msg.rstrip() if msg.endswith("\n") else msg)

    def flush(self) -> None:
        """Do nothing: loggers keep nothing back."""

    def writelines(self, lines: Iterable[str]) -> None:
        """Log some lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in LoggingLogAdapter.__slots__:
            setattr(self._logger, name, value)
        else:
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._logger, name)


class NoLog:
    """A file that forgets what is written to it."""

    def write(self, msg: str) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def writelines(self, lines: Iterable[str]) -> None:
        """Do nothing."""


def make_log(log: Any, level: int) -> Any:
    """The file for an argument of a server: "default" for standard error, None for none, a file, or
    a logger."""
    if log == "default":
        return sys.stderr
    if log is None:
        return NoLog()
    if not hasattr(log, "write") and hasattr(log, "log"):
        return LoggingLogAdapter(log, level)
    return log


class _Clock:
    """Local time as text, written out once a second."""

    second = -1
    text = ""

    def now(self, seconds: float) -> str:
        second = int(seconds)
        if second != self.second:
            self.text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
            self.second = second
        return self.text


_clock = _Clock()


def access_line(
    address: Any, line: str | None, status: int | str, length: int, finish: float, seconds: float
) -> str:
    """A line of the access log, without its end.

    address: the peer's. line: the request line, as far as it is known. status: of the response.
    length: of its body, in bytes. finish: when it was over, in seconds since 1970. seconds: how
    long it took.
    """
    host = address[0] if isinstance(address, tuple) else address
    if isinstance(host, bytes):
        host = host.decode("utf-8", "surrogateescape")
    return (
        f'{host or "-"} - - [{_clock.now(finish)}] "{line or ""}" {status} {length or "-"} '
        f"{seconds:.6f}"
    )
