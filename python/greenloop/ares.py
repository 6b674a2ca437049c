"""The former name of greenloop.resolver.cares. (As gevent.ares.)"""

from __future__ import annotations

from greenloop.resolver.cares import ares_host_result

__all__ = ["ares_host_result"]
