"""local: attributes that each greenlet has its own of."""

from __future__ import annotations

import gc
from typing import Any

from greenloop._core import greenlet, local

__all__ = ["local"]


def all_local_dicts_for_greenlet(
    greenlet: greenlet,
) -> list[tuple[tuple[type[local], int], dict[str, Any]]]:
    """Return the attributes that a greenlet has in objects of `local`, for debugging.

    greenlet: a greenlet of any kind.

    Returns for each object its class and its id(), and a dict of the attributes.
    """
    found = []
    for item in gc.get_objects():
        # Not isinstance: asking for its __class__ would make it ours as well.
        if issubclass(type(item), local):
            attributes = local._dict_of(item, greenlet)
            if attributes is not None:
                found.append(((type(item), id(item)), attributes))
    return found
