"""The former name of greenloop.resolver.thread. (As gevent.resolver_thread.)"""

from __future__ import annotations

from greenloop.resolver.thread import Resolver

__all__ = ["Resolver"]
