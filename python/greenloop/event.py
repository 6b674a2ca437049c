"""Event and AsyncResult: a flag and a result that greenlets and threads wait for."""

from __future__ import annotations

from greenloop._abstract_linkable import AbstractLinkable as AbstractLinkable  # gevent has it here
from greenloop._core import AsyncResult, Event

__all__ = ["AsyncResult", "Event"]
