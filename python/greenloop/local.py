"""local: attributes that each greenlet has its own of."""

from __future__ import annotations

from greenloop._core import local

__all__ = ["local"]
