"""The access log: a line for each request."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["AccessLog"]

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class AccessLog:
    """Writes lines to a file that several processes append to.

    path: of the file, "-" for standard output. kind: "common", "combined" or "json".

    Raises OSError if the file cannot be opened.
    """

    def __init__(self, path: str, kind: str) -> None:
        self._path = None if path == "-" else os.path.abspath(path)
        self._format = _FORMATS[kind]
        self._fd = -1
        self._has_failed = False
        self.reopen()

    def reopen(self) -> None:
        """Open the file anew, as it has been moved away. Raises OSError; then the old one stays."""
        if self._path is None:
            self._fd = 1
            return
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        before, self._fd = self._fd, fd
        if before >= 0:
            os.close(before)

    def close(self) -> None:
        """Close the file."""
        if self._path is not None:
            os.close(self._fd)
            self._fd = -1

    def write(
        self,
        environ: Mapping[str, Any],
        line: str | None,
        status: int,
        length: int,
        seconds: float,
    ) -> None:
        """Write the line of a request.

        environ: its environment, or what is known. line: its first line. status and length: of the
        response. seconds: how long it has taken.
        """
        text = self._format(environ, line, status, length, seconds, time.time())
        data = text.encode("utf-8", "backslashreplace")
        try:
            # At once, so that lines of several processes do not mix.
            os.write(self._fd, data)
        except OSError as error:
            # A full disk is no reason to fail requests.
            if not self._has_failed:
                self._has_failed = True
                print(
                    f"greenloop serve: cannot write the access log: {error.strerror}",
                    file=sys.stderr,
                    flush=True,
                )


def _quote(text: str) -> str:
    """A text that is safe between quotes: it ends neither the line nor the field."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    out = []
    for character in text:
        if character in '"\\':
            out.append("\\" + character)
        elif " " <= character <= "~":
            out.append(character)
        else:
            # Of what WSGI has made of bytes, each is a character.
            out.extend(f"\\x{byte:02x}" for byte in _bytes(character))
    return "".join(out)


def _bytes(character: str) -> bytes:
    return character.encode("latin-1" if character <= "\xff" else "utf-8", "surrogatepass")


class _Clock:
    """Local time as text, written out once a second."""

    def __init__(self, write: Callable[[int], str]) -> None:
        self._write = write
        self._second = -1
        self._text = ""

    def text(self, now: float) -> str:
        second = int(now)
        if second != self._second:
            self._second, self._text = second, self._write(second)
        return self._text


def _common_time(second: int) -> str:
    local = time.localtime(second)
    # strftime's names of months go by the locale.
    return time.strftime(f"%d/{_MONTHS[local.tm_mon - 1]}/%Y:%H:%M:%S %z", local)


def _iso_time(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


_common_clock = _Clock(_common_time)
_iso_clock = _Clock(_iso_time)


def _common(
    environ: Mapping[str, Any], line: str | None, status: int, length: int, _: float, now: float
) -> str:
    host = environ.get("REMOTE_ADDR") or "-"
    user = _quote(str(environ.get("REMOTE_USER") or "-")).replace(" ", "\\x20")
    request = _quote(line) if line else "-"
    when = _common_clock.text(now)
    return f'{host} - {user} [{when}] "{request}" {status} {length or "-"}\n'


def _combined(
    environ: Mapping[str, Any],
    line: str | None,
    status: int,
    length: int,
    seconds: float,
    now: float,
) -> str:
    common = _common(environ, line, status, length, seconds, now)
    referer = _quote(environ.get("HTTP_REFERER", "-"))
    agent = _quote(environ.get("HTTP_USER_AGENT", "-"))
    return f'{common[:-1]} "{referer}" "{agent}"\n'


def _json(
    environ: Mapping[str, Any],
    line: str | None,
    status: int,
    length: int,
    seconds: float,
    now: float,
) -> str:
    method, _, rest = (line or "").partition(" ")
    target, _, protocol = rest.rpartition(" ")
    record = {
        "time": f"{_iso_clock.text(now)}.{int(now % 1 * 1000):03d}Z",
        "remote_addr": environ.get("REMOTE_ADDR") or None,
        "remote_user": environ.get("REMOTE_USER"),
        "method": method or None,
        "target": target or None,
        "protocol": protocol or None,
        "host": environ.get("HTTP_HOST"),
        "scheme": environ.get("wsgi.url_scheme"),
        "status": status,
        "length": length,
        "seconds": round(seconds, 6),
        "referer": environ.get("HTTP_REFERER"),
        "user_agent": environ.get("HTTP_USER_AGENT"),
        "pid": os.getpid(),
    }
    return json.dumps(record, separators=(",", ":"), default=str) + "\n"


_FORMATS: dict[str, Callable[..., str]] = {"common": _common, "combined": _combined, "json": _json}
