"""What each thread has of its own: its hub, and the loop that its next hub will run."""

from __future__ import annotations

from greenloop._core import _get_hub_class as get_hub_class
from greenloop._core import _get_kept_loop as get_loop
from greenloop._core import _keep_loop as set_loop
from greenloop._core import _set_hub_class as set_default_hub_class
from greenloop._core import get_hub, get_hub_if_exists, set_hub
from greenloop._core import get_hub as get_hub_noargs

__all__ = [
    "get_hub",
    "get_hub_class",
    "get_hub_if_exists",
    "get_hub_noargs",
    "get_loop",
    "set_default_hub_class",
    "set_hub",
    "set_loop",
]
