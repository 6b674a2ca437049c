"""The former name of greenloop.resolver.ares. (As gevent.resolver_ares.)"""

from __future__ import annotations

from greenloop.resolver.ares import Resolver

__all__ = ["Resolver"]
