"""Starting and ending a companion program from a workload."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

# Where `make bench` puts the programs of benches/native.
NATIVE = Path(__file__).resolve().parent.parent.parent / "target" / "benches" / "release"

# Taken before the workload patches os: a patched close may wait for the hub to run.
_close, _read, _waitpid = os.close, os.read, os.waitpid


class Companion:
    """A companion program, alive while the `with` block is.

    It runs ``python -m benches.companions.NAME ARGS...`` on `cpu` (None: where this process
    runs), or with `native` the program NAME of benches/native. It ends when its standard input
    closes, so it never outlives a worker that was killed. It is spawned without the subprocess
    module, which would load threading before the workload could patch it.
    """

    def __init__(self, name: str, *args: object, cpu: int | None, native: bool = False) -> None:
        if native:
            program = str(NATIVE / name)
            if not os.path.exists(program):
                raise FileNotFoundError(f"{program} is missing: `make native-benches` builds it")
            command = [program, *map(str, args)]
        else:
            program = sys.executable
            command = [program, "-m", f"benches.companions.{name}", *map(str, args)]
        if cpu is not None:
            command += ["--cpu", str(cpu)]
        stdin, self._stdin = os.pipe()
        self._stdout, stdout = os.pipe()
        try:
            self.pid = os.posix_spawn(
                program,
                command,
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1)],
            )
        finally:
            _close(stdin)
            _close(stdout)
        self._buffer = b""

    @property
    def output(self) -> int:
        """The descriptor that is readable when there is something to `read`."""
        return self._stdout

    def read(self) -> dict[str, Any]:
        """The next line of JSON it writes; blocks the process. Raises EOFError if it ended."""
        while b"\n" not in self._buffer:
            chunk = _read(self._stdout, 4096)
            if not chunk:
                raise EOFError("the companion program ended without a report")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def finish(self) -> dict[str, Any]:
        """Tell it to end by closing its standard input; return its last report."""
        self._close_stdin()
        return self.read()

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            _close(self._stdin)
            self._stdin = -1

    def __enter__(self) -> Companion:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close_stdin()
        _close(self._stdout)
        _waitpid(self.pid, 0)
