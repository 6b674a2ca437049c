"""Child processes of the loop: how their end is noticed."""

from __future__ import annotations

import os
from typing import Any

from greenloop._core import spawn_raw
from greenloop.asyncio import _private
from greenloop.os import ChildWait

__all__ = ["Processes"]

#: What is said of a child whose status somebody else has taken.
_UNKNOWN = 255


class Processes(_private.StandardLoop):  # type: ignore[misc]
    """A standard loop that needs no thread to learn of the end of its children.

    Each has a descriptor that becomes readable when it has ended. Where the system gives none, a
    greenlet looks now and then. (Up to CPython 3.13 a program may set a child watcher of its own,
    which is used then.)
    """

    #: Children by their descriptors.
    _children: dict[int, Any]

    def __init__(self, *args: Any) -> None:
        self._children = {}
        super().__init__(*args)

    async def _make_subprocess_transport(
        self,
        protocol: Any,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        extra: Any = None,
        **kwargs: Any,
    ) -> Any:
        streams = stdin, stdout, stderr, bufsize
        if _private.has_own_child_watcher():
            return await super()._make_subprocess_transport(
                protocol, args, shell, *streams, extra, **kwargs
            )
        begun = self.create_future()
        transport = _private.SubprocessTransport(
            self, protocol, args, shell, *streams, waiter=begun, extra=extra, **kwargs
        )
        self._watch_child(transport)
        try:
            await begun
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await transport._wait()
            raise
        return transport

    def _watch_child(self, transport: Any) -> None:
        try:
            fd = os.pidfd_open(transport.get_pid())
        except OSError:
            # There are none in old kernels and sandboxes, or too many are open.
            spawn_raw(self._wait_for_child, transport)
        else:
            self._children[fd] = transport
            self._add_reader(fd, self._child_ended, fd)

    def _child_ended(self, fd: int) -> None:
        transport = self._children.pop(fd)
        self._remove_reader(fd)
        os.close(fd)
        self._take_status(transport, 0)

    def _wait_for_child(self, transport: Any) -> None:
        with ChildWait(transport.get_pid()) as child:
            while not self.is_closed() and not self._take_status(transport, os.WNOHANG):
                child.wait()

    def _take_status(self, transport: Any, options: int) -> bool:
        """Wait for a child, and tell its transport. False if it has not ended."""
        pid: int = transport.get_pid()
        try:
            found, status = os.waitpid(pid, options)
        except ChildProcessError:
            # Up to CPython 3.12 whoever sends a signal may have taken it.
            known = transport.get_extra_info("subprocess").returncode
            if known is not None:
                transport._process_exited(known)
                return True
            _private.logger.warning(
                "child process pid %d exit status already read: will report returncode %d",
                pid,
                _UNKNOWN,
            )
            transport._process_exited(_UNKNOWN)
            return True
        # At once: the number may be another process's now, and nobody is to send that a signal.
        if found == pid:
            transport._process_exited(os.waitstatus_to_exitcode(status))
        return found == pid

    def close(self) -> None:
        while self._children:
            fd, _ = self._children.popitem()
            self._remove_reader(fd)
            os.close(fd)
        super().close()
