"""Event and AsyncResult: a flag and a result that greenlets and threads wait for."""

from __future__ import annotations

from greenloop._core import AsyncResult, Event

__all__ = ["AsyncResult", "Event"]
