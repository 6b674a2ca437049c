"""patch_all."""

from __future__ import annotations

from typing import Any

from greenloop.monkey._announce import PatchAll
from greenloop.monkey._items import warn
from greenloop.monkey._patch_os import (
    patch_builtins,
    patch_contextvars,
    patch_os,
    patch_signal,
    patch_subprocess,
    patch_sys,
)
from greenloop.monkey._patch_queue import patch_queue
from greenloop.monkey._patch_select import patch_select, patch_selectors
from greenloop.monkey._patch_socket import patch_dns, patch_socket
from greenloop.monkey._patch_ssl import patch_ssl
from greenloop.monkey._patch_thread import patch_thread
from greenloop.monkey._patch_time import patch_time

# What the calls have asked for so far, taken together; None before the first.
_asked_for: dict[str, bool] | None = None


def patch_all(
    socket: bool = True,
    dns: bool = True,
    time: bool = True,
    select: bool = True,
    thread: bool = True,
    os: bool = True,
    ssl: bool = True,
    subprocess: bool = True,
    sys: bool = False,
    aggressive: bool = True,
    Event: bool = True,  # noqa: N803 - gevent's name for it
    builtins: bool = True,
    signal: bool = True,
    queue: bool = True,
    contextvars: bool = True,
    **kwargs: Any,
) -> bool:
    """Make the standard library cooperative, by calling the other functions here.

    It may be called at any time, and more than once. Calling it early is better all the same:
    a name that the program imported before (`from time import sleep`) still means the original,
    and so does a class that it derived from one that is replaced.

    socket, time, os, ssl, subprocess, sys, builtins, signal, queue, contextvars: whether to call
        the function of that name.
    dns: whether `patch_socket` replaces the functions that look up host names.
    select: whether to call `patch_select` and `patch_selectors`.
    thread, Event: whether to call `patch_thread`, and its argument.
    aggressive: for `patch_socket`, `patch_select` and `patch_selectors`.
    kwargs: taken for those who want to be told of the call.

    Subscribers of `greenloop.events` are told what happens, and may object to it as a whole or in
    part. They are told no more than once of what is patched, and not of calls that add nothing.

    Returns True, or False if a subscriber objects to it as a whole. Calling it again with other
    arguments adds what is new, takes nothing back, and issues a MonkeyPatchWarning.
    """
    global _asked_for
    known = {name: value for name, value in locals().items() if name != "kwargs"}
    wanted = {name: bool(value) for name, value in known.items()}
    before = _asked_for or dict.fromkeys(known, False)
    new = {name for name in wanted if wanted[name] and not before[name]}
    if _asked_for is not None:
        if wanted != before:
            warn(
                "patch_all() was called more than once, with other arguments: it adds what is new, "
                "and takes nothing back. Call it once, with the arguments that are wanted."
            )
        if not new:
            return True
    events = PatchAll(known, kwargs)
    if not events.will():
        return False
    _asked_for = {name: wanted[name] or before[name] for name in known}

    if "os" in new:
        patch_os()
    if "time" in new:
        patch_time()
    if "thread" in new or (thread and "Event" in new):
        patch_thread(Event=Event)
    if "sys" in new:
        patch_sys()
    if "socket" in new:
        patch_socket(dns=dns, aggressive=aggressive)
    elif socket and "dns" in new:
        patch_dns()
    if "select" in new or (select and "aggressive" in new):
        patch_select(aggressive=aggressive)
        patch_selectors(aggressive=aggressive)
    if "ssl" in new:
        patch_ssl()
    if "subprocess" in new:
        patch_subprocess()
    if "builtins" in new:
        patch_builtins()
    if "signal" in new:
        patch_signal()
    if "queue" in new:
        patch_queue()
    if "contextvars" in new:
        patch_contextvars()
    events.did()
    return True
