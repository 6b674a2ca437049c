"""GreenletTree: which greenlet spawned which."""

from __future__ import annotations

import gc
import pprint
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, ClassVar

from greenloop._core import getcurrent, greenlet
from greenloop.local import all_local_dicts_for_greenlet

__all__ = ["GreenletTree"]

# How much of a result is shown.
_RESULT_LENGTH = 30


class GreenletTree:
    """A greenlet, and those that it spawned, that these spawned, and so on.

    What is the hub's or a raw greenlet's own, or was spawned by one that is gone, stands under the
    main greenlet of its thread. As a text it shows their names; `format` tells more. Attributes of
    the greenlet can be read from this object too. (As gevent.util.GreenletTree.)

    greenlet: the greenlet.
    """

    #: The greenlet at the root of this tree.
    greenlet: Any = None

    #: Whether it is that of the thread in which the tree was made.
    is_current_tree = False

    #: What format_lines tells unless told otherwise.
    DEFAULT_DETAILS: ClassVar[dict[str, Any]] = {
        "running_stacks": True,
        "running_stack_limit": None,
        "spawning_stacks": True,
        "locals": True,
    }

    def __init__(self, greenlet: Any) -> None:
        self.greenlet = greenlet
        #: The trees of those that the greenlet spawned.
        self.child_trees: list[GreenletTree] = []

    def add_child(self, tree: GreenletTree) -> None:
        """Put a tree under this one. Nothing happens if it is the same."""
        if tree is not self:
            self.child_trees.append(tree)

    @property
    def root(self) -> bool:
        """Whether the greenlet is the main one of its thread."""
        return self.greenlet.parent is None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.greenlet, name)

    # --- making trees

    @classmethod
    def forest(cls) -> list[GreenletTree]:
        """Return the trees of all greenlets there are: one for each thread."""
        return list(cls._forest()[0].values())

    @classmethod
    def current_tree(cls) -> GreenletTree:
        """Return the tree of the greenlets of this thread."""
        return cls._forest()[1]

    @classmethod
    def _forest(cls) -> tuple[dict[Any, GreenletTree], GreenletTree]:
        main = _root_of(getcurrent())
        trees = {main: cls(main)}
        roots = {main: trees[main]}
        trees[main].is_current_tree = True
        for item in _all_greenlets():
            parent = _spawner_of(item)
            if parent is None:
                parent = _root_of(item)
            if parent not in trees:
                trees[parent] = cls(parent)
            if parent not in roots and parent is _root_of(parent):
                roots[parent] = trees[parent]
            if item not in trees:
                trees[item] = cls(item)
            trees[parent].add_child(trees[item])
        return roots, trees[main]

    # --- showing them

    def format(self, details: bool | dict[str, Any] = True) -> str:
        """Return format_lines(details) as one text."""
        return "\n".join(self.format_lines(details))

    def format_lines(self, details: bool | dict[str, Any] = True) -> list[str]:
        """Describe the tree, as lines of text.

        details: False for the greenlets alone. A dict may say: running_stacks, whether to show
            where each greenlet is; running_stack_limit, how many frames of that, None for all;
            spawning_stacks, whether to show where each was spawned; locals, whether to show its
            attributes of `greenloop.local.local` objects.
        """
        if isinstance(details, dict):
            wanted = self.DEFAULT_DETAILS | details
        else:
            wanted = self.DEFAULT_DETAILS if details else {}
        return list(self._lines(wanted))

    def __str__(self) -> str:
        return self.format(False)

    def _lines(self, details: dict[str, Any]) -> Iterator[str]:
        # Not recursive: each greenlet may have spawned the next. The prefixes of a node's label,
        # of what hangs below it, and of what is said about it.
        pending: list[tuple[GreenletTree, str, str, str]] = [(self, "", "", " :    ")]
        while pending:
            tree, head, tail, data = pending.pop()
            yield head + tree._label()
            if details:
                for line in tree._data(details):
                    yield data + line
            children = sorted(tree.child_trees, key=_order)
            below = []
            for index, child in enumerate(children):
                last = index == len(children) - 1
                # Only the line at the left edge tells data that the root goes on below.
                edge = "      " if tail or (last and not head) else " :    "
                child_data = (data if head else edge) + "      "
                below.append(
                    (child, f"{tail} +--- ", tail + ("     " if last else " |   "), child_data)
                )
            pending += reversed(below)

    def _label(self) -> str:
        label = repr(self.greenlet)
        if self.greenlet:
            return label
        ready: Callable[[], bool] | None = getattr(self.greenlet, "ready", None)
        if ready is None or not ready():
            return f"{label}; not running"
        label += "; finished"
        if self.greenlet.value is not None:
            return f"{label} with value {repr(self.greenlet.value)[:_RESULT_LENGTH]}"
        error = getattr(self.greenlet, "exception", None)
        return label if error is None else f"{label} with exception {error!r}"

    def _data(self, details: dict[str, Any]) -> Iterator[str]:
        one = self.greenlet
        yield f"Parent: {one.parent!r}"
        if details["running_stacks"] and one and one.gr_frame is not None:
            yield "Running:"
            yield from _stack(one.gr_frame, details["running_stack_limit"])
        spawning_stack = getattr(one, "spawning_stack", None)
        if details["spawning_stacks"] and spawning_stack is not None:
            yield "Spawned at:"
            yield from _stack(spawning_stack, None)
        tree_locals = getattr(one, "spawn_tree_locals", None)
        inherited = getattr(_spawner_of(one), "spawn_tree_locals", None)
        if tree_locals and tree_locals is not inherited:
            yield "Spawn Tree Locals"
            yield from pprint.pformat(tree_locals).splitlines()
        if details["locals"]:
            found = [entry for entry in all_local_dicts_for_greenlet(one) if entry[1]]
            if found:
                yield "Greenlet Locals:"
            for (kind, number), attributes in found:
                yield f"  Local {kind} at {number:#x}"
                for line in pprint.pformat(attributes).splitlines():
                    yield f"    {line}"


def _stack(frame: FrameType, limit: int | None) -> Sequence[str]:
    return "".join(traceback.format_stack(frame, limit)).splitlines()


def _order(tree: GreenletTree) -> tuple[int, bool, int]:
    """Raw greenlets first, then by age, then those that still run."""
    one = tree.greenlet
    ready: Callable[[], bool] | None = getattr(one, "ready", None)
    return getattr(one, "minimal_ident", -1), bool(ready and ready()), id(one.parent)


def _all_greenlets() -> list[Any]:
    return [
        item
        for item in gc.get_objects()
        if issubclass(type(item), greenlet) and not getattr(item, "greenlet_tree_is_ignored", False)
    ]


def _spawner_of(one: Any) -> Any:
    reference = getattr(one, "spawning_greenlet", None)
    return None if reference is None else reference()


def _root_of(one: Any) -> Any:
    while one.parent is not None and not getattr(one, "greenlet_tree_is_root", False):
        one = one.parent
    return one
