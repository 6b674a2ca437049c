"""An interactive console in a running program, for whoever connects. (As gevent.backdoor.)"""

from __future__ import annotations

import builtins
import code
import io
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from greenloop._core import GreenletExit, getcurrent
from greenloop.pool import Pool
from greenloop.server import StreamServer

__all__ = ["BackdoorServer"]


class BackdoorServer(StreamServer):
    """A server that gives everyone who connects a console in the running program.

    There is no authentication, and whoever connects can do all that the program can. Listen on the
    loopback interface, or on a Unix-domain socket in a directory of one's own::

        BackdoorServer(("127.0.0.1", 5001), locals={"app": app}).start()

    and connect by `telnet 127.0.0.1 5001` or `nc 127.0.0.1 5001`.

    listener: as for StreamServer.
    locals: names and values for the console. Each connection gets a dictionary of its own.
    banner: a text for whoever connects; None for what Python says when it starts.
    server_args: further arguments of StreamServer.

    In code that is typed in `sys.stdin`, `sys.stdout` and `sys.stderr` are the connection's; in
    other greenlets, those that such code spawns among them, they stay what they are. Stopping the
    server ends the connections.
    """

    def __init__(
        self,
        listener: Any,
        locals: dict[str, Any] | None = None,
        banner: str | None = None,
        **server_args: Any,
    ) -> None:
        server_args.setdefault("spawn", Pool())
        super().__init__(listener, **server_args)
        self.locals = {"__doc__": None, "__name__": "__console__", **(locals or {})}
        self.banner = banner

    def _create_interactive_locals(self) -> dict[str, Any]:
        """The namespace of a console."""
        # The module, not its dictionary, lest locals() show all that is in there.
        return {**self.locals, "builtins": builtins, "__builtins__": builtins}

    def handle(self, conn: Any, _address: Any) -> None:
        """Run a console for one connection, until its end, `quit()` or `sys.exit()`."""
        console = InteractiveConsole(_Streams(conn), self._create_interactive_locals())
        try:
            with _redirected(console):
                console.run(self.banner)
        except (SystemExit, ConnectionError):
            pass  # The connection is closed now, if it has not been before.
        finally:
            console.streams.close()


class InteractiveConsole(code.InteractiveConsole):
    """A console that talks to a connection."""

    def __init__(self, streams: _Streams, names: dict[str, Any]) -> None:
        super().__init__(names)
        self.streams = streams

    def run(self, banner: str | None) -> None:
        """Read and execute until the connection ends."""
        # interact() of the standard class would do, but that it puts the prompts into `sys`, and,
        # when the first of several consoles ends, takes them out again.
        if banner is None:
            notice = 'Type "help", "copyright", "credits" or "license" for more information.'
            banner = f"Python {sys.version} on {sys.platform}\n{notice}\n({type(self).__name__})"
        if banner:
            self.write(f"{banner}\n")
        is_unfinished = False
        while True:
            name, default = ("ps2", "... ") if is_unfinished else ("ps1", ">>> ")
            try:
                line = self.raw_input(str(getattr(sys, name, default)))
            except EOFError:
                return
            is_unfinished = self.push(line)

    def raw_input(self, prompt: str = "") -> str:
        """Write a prompt, and read a line. Raises EOFError at the end."""
        self.write(prompt)
        line = self.streams.input.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n")

    def write(self, data: str) -> None:
        """Write a text."""
        self.streams.output.write(data)

    def runcode(self, code: Any) -> None:
        """Execute code. Errors of it are shown; SystemExit ends the console, as does a kill."""
        try:
            exec(code, self.locals)
        except (SystemExit, GreenletExit):
            raise
        except BaseException:
            self.showtraceback()

    def showtraceback(self) -> None:
        """Show the exception that is being handled, even if the program has an excepthook."""
        kind, value, tb = sys.exc_info()
        # Without the frame that executes the code.
        inner = tb.tb_next if tb is not None else None
        self.write("".join(traceback.format_exception(kind, value, inner)))

    def display(self, value: Any) -> None:
        """Show the value of an expression, and keep it as `_`, which is the console's own."""
        if value is not None:
            print(repr(value), file=self.streams.output)
            self.locals["_"] = value


# --- the connection as files

#: What telnet sends besides text: commands, and options with one byte each.
_TELNET = re.compile(rb"\xff(?:[\xfb-\xfe].|[\xf0-\xfa])", re.DOTALL)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\r\n", "\n")


class _Input(io.TextIOBase):
    """The lines that come from a connection. Lines end with "\\n", whatever is sent."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, conn: Any) -> None:
        self.buffer = conn.makefile("rb")

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        fd: int = self.buffer.fileno()
        return fd

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        line = _TELNET.sub(b"", self.buffer.readline(-1 if size is None else size))
        if line.rstrip(b"\r\n") == b"\x04":
            return ""  # Ctrl-D, from a terminal that does not take it for itself
        return _text(line)

    def read(self, size: int | None = -1, /) -> str:
        data = self.buffer.read(-1 if size is None else size)
        return _text(_TELNET.sub(b"", data))

    def close(self) -> None:
        self.buffer.close()
        super().close()


class _Output(io.TextIOBase):
    """Text for a connection. It is sent at once."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self.buffer = conn.makefile("wb")

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        fd: int = self._conn.fileno()
        return fd

    def write(self, text: str, /) -> int:
        self._conn.sendall(text.encode(self.encoding, self.errors))
        return len(text)

    def flush(self) -> None:
        self.buffer.flush()

    def close(self) -> None:
        try:
            super().close()  # It flushes.
        finally:
            self.buffer.close()


class _Streams:
    """The files of a connection."""

    def __init__(self, conn: Any) -> None:
        self.input = _Input(conn)
        self.output = _Output(conn)

    def close(self) -> None:
        """Close the files: as long as one is open, so is the connection."""
        self.input.close()
        with suppress(OSError, ValueError):
            # The peer may be gone, and the program may have closed the buffer.
            self.output.close()


class _Nowhere(io.TextIOBase):
    """For a program without a stream: `sys.stdout` is None, and printing does nothing."""

    def write(self, text: str, /) -> int:
        return len(text)


# --- sys.stdin and the like, by greenlet

#: The consoles that there are, by their greenlets.
_consoles: dict[Any, InteractiveConsole] = {}


class _ByGreenlet:
    """Stands for a stream of `sys`: the console's in its greenlet, the program's in others."""

    def __init__(self, stream: Any, name: str) -> None:
        self.__dict__.update(_stream=stream, _name=name)

    def _present(self) -> Any:
        console = _consoles.get(getcurrent())
        return self._stream if console is None else getattr(console.streams, self._name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._present(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._present(), name, value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._present())

    def __next__(self) -> Any:
        return next(self._present())

    def __enter__(self) -> Any:
        return self._present().__enter__()

    def __exit__(self, *args: Any) -> Any:
        return self._present().__exit__(*args)

    def __repr__(self) -> str:
        return repr(self._present())


class _Redirection:
    """Puts the stand-ins into `sys` as long as there are consoles.

    The alternative is to exchange the streams at every switch of such a greenlet: others could do
    nothing that costs it, but what a console prints to would depend on who runs.
    """

    _NAMES = (("stdin", "input"), ("stdout", "output"), ("stderr", "output"))

    def __init__(self) -> None:
        self._put: dict[str, tuple[Any, Any]] = {}

    def begin(self) -> None:
        for name, ours in self._NAMES:
            stream = getattr(sys, name)
            program = _Nowhere() if stream is None else stream
            self._exchange(name, stream, _ByGreenlet(program, ours))
        original = sys.displayhook

        def display(value: Any) -> None:
            console = _consoles.get(getcurrent())
            (original if console is None else console.display)(value)

        self._exchange("displayhook", original, display)

    def _exchange(self, name: str, original: Any, stand_in: Any) -> None:
        self._put[name] = original, stand_in
        setattr(sys, name, stand_in)

    def end(self) -> None:
        for name, (original, stand_in) in self._put.items():
            # What the program has put there meanwhile stays.
            if getattr(sys, name) is stand_in:
                setattr(sys, name, original)
        self._put.clear()


_redirection = _Redirection()


@contextmanager
def _redirected(console: InteractiveConsole) -> Iterator[None]:
    """Have the running greenlet's standard streams be those of a console."""
    me = getcurrent()
    if not _consoles:
        _redirection.begin()
    _consoles[me] = console
    try:
        yield
    finally:
        del _consoles[me]
        if not _consoles:
            _redirection.end()
