"""The names of the standard :mod:`builtins`. (As gevent.builtins.)

There is nothing to replace: the locks of imports are cooperative once `threading` is patched.
"""

from __future__ import annotations

import builtins as __gbuiltins__
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """What the standard module has is put into the namespace below."""


#: Names that replace those of the standard module when it is patched.
__implements__: list[str] = []
__imports__ = [name for name in dir(__gbuiltins__) if not name.startswith("__")]
__all__: list[str] = []
__target__ = "builtins"

globals().update((name, getattr(__gbuiltins__, name)) for name in (*__imports__, "__import__"))
