"""`ssl`."""

from __future__ import annotations

from importlib.util import find_spec

from greenloop.monkey._aliases import patch_everywhere
from greenloop.monkey._announce import vetoable
from greenloop.monkey._items import patch_item


@vetoable
def patch_ssl() -> None:
    """Have TLS contexts make cooperative sockets. Nothing happens in a Python built without TLS.

    The classes of `ssl` stay what they are, so it does not matter when this is called, and what
    libraries have made of them: contexts that exist already, and contexts and sockets of classes
    that the program has derived, become cooperative, whether they were derived before or after.
    Useful together with `patch_socket` only.
    """
    if find_spec("_ssl") is None:
        return
    import ssl as stdlib_ssl

    from greenloop import ssl as green_ssl

    patch_everywhere(stdlib_ssl, green_ssl)
    for kind, attribute, replacement in green_ssl._class_patches:
        patch_item(kind, attribute, replacement)
