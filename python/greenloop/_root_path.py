"""Where applications are: what a path must be that one is mounted at, or served below."""

from __future__ import annotations

__all__ = ["normal_mount_path", "normal_root_path", "quoted_path"]


def _directory(path: str) -> str:
    """A path without slashes at its end. Raises ValueError for what is none."""
    is_path = path.startswith("/") and not path.startswith("//") and path.isprintable()
    if not is_path or "?" in path or "#" in path:
        raise ValueError(f"expected a path like /api, not {path!r}")
    return path.rstrip("/")


def normal_mount_path(path: str) -> str:
    """Return where an application is mounted without a slash at the end. Raises ValueError."""
    try:
        directory = _directory(path)
    except ValueError:
        directory = ""
    if not directory:
        raise ValueError(f"an application is mounted at a path like /api, not {path!r}")
    return directory


def normal_root_path(path: str) -> str:
    """Return what the paths of all applications begin with, without a slash at the end; empty for
    "" and "/". Raises ValueError."""
    return _directory(path) if path else ""


def quoted_path(path: str) -> bytes:
    """A path as it is in requests: what cannot stand there is escaped."""
    from urllib.parse import quote

    return quote(path, safe="/!$&'()*+,:;=@~").encode("ascii")
