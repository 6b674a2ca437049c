"""Context variables. (As gevent.contextvars.)

These are the standard library's: each greenlet has a context of its own, so that a variable set in
one is not seen in others.
"""

from __future__ import annotations

from contextvars import Context, ContextVar, Token, copy_context

__all__ = ["Context", "ContextVar", "Token", "copy_context"]

#: What patching replaces: nothing. Context variables belong to greenlets in any case.
__implements__: list[str] = []
__imports__ = __all__
