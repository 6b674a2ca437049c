"""What patches of one's own are made with. (As gevent.monkey.api.)"""

from __future__ import annotations

from greenloop.monkey._items import patch_item, patch_module, remove_item
from greenloop.monkey._state import get_original

__all__ = ["get_original", "patch_item", "patch_module", "remove_item"]
