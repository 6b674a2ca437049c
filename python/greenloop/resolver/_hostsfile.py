"""Files as `/etc/hosts`, for who wants to see all that is in them."""

from __future__ import annotations

from collections.abc import Iterator

from greenloop import _core

__all__ = ["HostsFile"]


class HostsFile:
    """The lines of a file.

    fname: its path; `/etc/hosts` by default.
    """

    def __init__(self, fname: str | None = None) -> None:
        self.fname = "/etc/hosts" if fname is None else fname

    def iter_all_host_addr_pairs(self) -> Iterator[tuple[str, str]]:
        """The names and the address of each. Raises OSError if the file cannot be read."""
        for address, names in _core.read_hosts(self.fname):
            for name in names:
                yield name, address
