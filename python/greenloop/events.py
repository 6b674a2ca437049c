"""What greenloop tells programs and libraries of: patching, blocking greenlets, memory use.

An event is an object. `notify` passes it to each of `subscribers`, functions of one argument. Some
classes have an ENTRY_POINT_NAME: subscribers for these may also be installed as entry points of
that group, and are found without being imported first. (As gevent.events.)

Where the package zope.event is installed, `subscribers` and `notify` are its own. Where
zope.interface is, the interfaces are real ones, which the classes implement; elsewhere they are
plain classes that say the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

__all__ = [
    "DoNotPatch",
    "EventLoopBlocked",
    "GeventDidPatchAllEvent",
    "GeventDidPatchBuiltinModulesEvent",
    "GeventDidPatchEvent",
    "GeventDidPatchModuleEvent",
    "GeventPatchEvent",
    "GeventWillPatchAllEvent",
    "GeventWillPatchEvent",
    "GeventWillPatchModuleEvent",
    "IEventLoopBlocked",
    "IGeventDidPatchAllEvent",
    "IGeventDidPatchBuiltinModulesEvent",
    "IGeventDidPatchEvent",
    "IGeventDidPatchModuleEvent",
    "IGeventPatchEvent",
    "IGeventWillPatchAllEvent",
    "IGeventWillPatchEvent",
    "IGeventWillPatchModuleEvent",
    "IMemoryUsageThresholdExceeded",
    "IMemoryUsageUnderThreshold",
    "IPeriodicMonitorThread",
    "IPeriodicMonitorThreadStartedEvent",
    "MemoryUsageThresholdExceeded",
    "MemoryUsageUnderThreshold",
    "PeriodicMonitorThreadStartedEvent",
    "notify",
    "notify_and_call_entry_points",
    "subscribers",
]

_C = TypeVar("_C", bound=type)

if TYPE_CHECKING:

    class Interface:
        """What a class promises to have."""

    class Attribute:
        """An attribute that an interface promises."""

        def __init__(self, doc: str) -> None: ...

    def implementer(*interfaces: type) -> Callable[[_C], _C]:
        """Say that a class keeps the promises of interfaces."""

else:
    try:
        from zope.interface import Attribute, Interface, implementer
    except ImportError:

        class Interface:
            """What a class promises to have."""

        class Attribute:
            """An attribute that an interface promises."""

            def __init__(self, doc: str) -> None:
                self.__doc__ = doc

        def implementer(*interfaces: type) -> Callable[[_C], _C]:
            """Say that a class keeps the promises of interfaces."""
            return lambda kind: kind


#: Who is told of events: functions that take one. An exception of one is raised where the event
#: happens, and those after it are not called. Append to the list; do not assign it.
subscribers: list[Callable[[Any], object]]

if TYPE_CHECKING:

    def notify(event: object) -> None:
        """Call each of `subscribers` with an event."""

else:
    try:
        from zope.event import notify, subscribers
    except ImportError:
        subscribers = []

        def notify(event: object) -> None:
            """Call each of `subscribers` with an event."""
            for subscriber in subscribers:
                subscriber(event)


def notify_and_call_entry_points(event: Any) -> None:
    """Call each of `subscribers`, then what is installed for events of this class.

    event: an object with an ENTRY_POINT_NAME, the group of entry points to load and call.

    What a subscriber raises is passed on, and what comes after it is not called.
    """
    notify(event)
    for entry_point in _entry_points(event.ENTRY_POINT_NAME):
        entry_point.load()(event)


def _entry_points(group: str) -> Iterator[Any]:
    if not _may_have_plugins():
        return
    # Imported late: that takes longer than importing greenloop.
    from importlib.metadata import entry_points

    for entry_point in entry_points(group=group):
        # gevent has some that are about its own patching; it may be installed, but it is not used.
        if entry_point.dist is None or entry_point.dist.name != "gevent":
            yield entry_point


#: For directories where packages are installed, when they were last changed: whether something in
#: them is an entry point for our events.
_plugins: dict[tuple[str, int], bool] = {}


def _may_have_plugins() -> bool:
    """Tell whether there can be entry points for our events at all.

    importlib.metadata knows, but takes long, and nearly always there are none.
    """
    for finder in sys.meta_path:
        module = getattr(finder, "__module__", None) or type(finder).__module__
        if hasattr(finder, "find_distributions") and not (
            module.startswith(("_frozen_importlib", "importlib", "greenloop."))
        ):
            return True
    return any(_has_plugins(path or ".") for path in sys.path)


def _has_plugins(path: str) -> bool:
    try:
        key = (path, os.stat(path).st_mtime_ns)
    except OSError:
        return False
    found = _plugins.get(key)
    if found is None:
        found = _plugins[key] = _look_for_plugins(path)
    return found


def _look_for_plugins(path: str) -> bool:
    try:
        names = os.listdir(path)
    except OSError:
        return True  # an archive
    for name in names:
        if name.endswith((".dist-info", ".egg-info", ".egg")) and not name.startswith("gevent-"):
            folder = "EGG-INFO" if name.endswith(".egg") else "."
            try:
                with open(os.path.join(path, name, folder, "entry_points.txt"), "rb") as file:
                    if b"gevent.plugins." in file.read():
                        return True
            except OSError:
                continue
    return False


# --- the monitor thread


class IPeriodicMonitorThread(Interface):
    """The native thread that looks after a hub."""

    def add_monitoring_function(function, period):  # type: ignore[no-untyped-def]  # noqa: N805 - no self
        """Call a function, with the hub, about every *period* seconds, in the monitor thread.

        It must not wait cooperatively. Adding it again changes its period; None takes it away.
        Raises ValueError for a period that is not positive.
        """


class IPeriodicMonitorThreadStartedEvent(Interface):
    """A hub has started its monitor thread. A good time to add functions to it."""

    monitor = Attribute("The IPeriodicMonitorThread.")


@implementer(IPeriodicMonitorThreadStartedEvent)
class PeriodicMonitorThreadStartedEvent:
    """A hub has started its monitor thread.

    monitor: the thread's object, an IPeriodicMonitorThread.
    """

    #: The group of entry points that are called.
    ENTRY_POINT_NAME: ClassVar[str] = "gevent.plugins.hub.periodic_monitor_thread_started"

    def __init__(self, monitor: Any) -> None:
        self.monitor = monitor


class IEventLoopBlocked(Interface):
    """A greenlet has kept all others from running. Told of in the monitor thread."""

    greenlet = Attribute("The greenlet that runs.")
    blocking_time = Attribute("For how many seconds at least, about.")
    info = Attribute("The lines of the report that will be printed: a list, which may be changed.")
    hub = Attribute("The hub that does not get to run; None if that is not known.")


@implementer(IEventLoopBlocked)
class EventLoopBlocked:
    """A greenlet has kept all others from running. Told of in the monitor thread.

    greenlet: the greenlet.
    blocking_time: for how many seconds at least, about.
    info: the lines of the report that will be printed; a list, which may be changed.
    hub: the hub that does not get to run.
    """

    def __init__(
        self, greenlet: Any, blocking_time: float | None, info: list[str], *, hub: Any = None
    ) -> None:
        self.greenlet = greenlet
        self.blocking_time = blocking_time
        self.info = info
        self.hub = hub


class IMemoryUsageThresholdExceeded(Interface):
    """The process uses more memory than `config.max_memory_usage`.

    Told of as long as it grows, in the monitor thread.
    """

    mem_usage = Attribute("How many bytes it uses.")
    max_allowed = Attribute("How many it should use at most.")
    memory_info = Attribute("What the system says, with the attributes rss and maybe uss.")


class _MemoryEvent:
    def __init__(self, mem_usage: int, max_allowed: int, memory_info: Any) -> None:
        self.mem_usage = mem_usage
        self.max_allowed = max_allowed
        self.memory_info = memory_info

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} used={self.mem_usage} max={self.max_allowed} "
            f"details={self.memory_info!r}>"
        )


@implementer(IMemoryUsageThresholdExceeded)
class MemoryUsageThresholdExceeded(_MemoryEvent):
    """The process uses more memory than it should. Told of as long as it grows.

    mem_usage: how many bytes it uses.
    max_allowed: how many it should use at most.
    memory_info: what the system says: an object with the attributes rss and maybe uss.
    """


class IMemoryUsageUnderThreshold(Interface):
    """The process uses no more than `config.max_memory_usage` again. Told of once."""

    mem_usage = Attribute("How many bytes it uses.")
    max_allowed = Attribute("How many it should use at most.")
    max_memory_usage = Attribute("How many it used when it was last seen to use too many.")
    memory_info = Attribute("What the system says, with the attributes rss and maybe uss.")


@implementer(IMemoryUsageUnderThreshold)
class MemoryUsageUnderThreshold(_MemoryEvent):
    """The process uses as much memory as it should again. Told of once.

    mem_usage, max_allowed, memory_info: as for MemoryUsageThresholdExceeded.
    max_usage: how many bytes it used when it was last seen to use too many.
    """

    def __init__(self, mem_usage: int, max_allowed: int, memory_info: Any, max_usage: int) -> None:
        super().__init__(mem_usage, max_allowed, memory_info)
        self.max_memory_usage = max_usage


# --- patching


class IGeventPatchEvent(Interface):
    """Something is, or has been, patched."""

    source = Attribute("Where the replacements come from.")
    target = Attribute("What they are put into.")


@implementer(IGeventPatchEvent)
class GeventPatchEvent:
    """Something is, or has been, patched.

    source: where the replacements come from.
    target: what they are put into.
    """

    def __init__(self, source: Any, target: Any) -> None:
        self.source = source
        self.target = target

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} source={self.source!r} target={self.target!r} "
            f"at {id(self):#x}>"
        )


class IGeventWillPatchEvent(IGeventPatchEvent):
    """Something is about to be patched, unless a subscriber raises DoNotPatch."""


class DoNotPatch(BaseException):
    """Raised by subscribers: what is about to be patched shall stay as it is."""


@implementer(IGeventWillPatchEvent)
class GeventWillPatchEvent(GeventPatchEvent):
    """Something is about to be patched, unless a subscriber raises DoNotPatch."""


class IGeventDidPatchEvent(IGeventPatchEvent):
    """Something has been patched."""


@implementer(IGeventDidPatchEvent)
class GeventDidPatchEvent(GeventPatchEvent):
    """Something has been patched."""


class IGeventWillPatchModuleEvent(IGeventWillPatchEvent):
    """A module is about to be patched. Source and target are modules."""

    module_name = Attribute("The name of the target.")
    target_item_names = Attribute("What is to be replaced: a list of names, which may be changed.")


@implementer(IGeventWillPatchModuleEvent)
class GeventWillPatchModuleEvent(GeventWillPatchEvent):
    """A module is about to be patched, unless a subscriber raises DoNotPatch.

    module_name: the name of the target.
    source, target: modules.
    items: the names of what is to be replaced; a list, which may be changed. It is the attribute
        target_item_names.
    """

    #: The group of entry points that are called.
    ENTRY_POINT_NAME: ClassVar[str] = "gevent.plugins.monkey.will_patch_module"

    def __init__(self, module_name: str, source: Any, target: Any, items: list[str]) -> None:
        super().__init__(source, target)
        self.module_name = module_name
        self.target_item_names = items


class IGeventDidPatchModuleEvent(IGeventDidPatchEvent):
    """A module has been patched. Source and target are modules."""

    module_name = Attribute("The name of the target.")


@implementer(IGeventDidPatchModuleEvent)
class GeventDidPatchModuleEvent(GeventDidPatchEvent):
    """A module has been patched.

    module_name: the name of the target.
    source, target: modules.
    """

    #: The group of entry points that are called.
    ENTRY_POINT_NAME: ClassVar[str] = "gevent.plugins.monkey.did_patch_module"

    def __init__(self, module_name: str, source: Any, target: Any) -> None:
        super().__init__(source, target)
        self.module_name = module_name


class _PatchAllEvent:
    """Mixed into the events of patch_all, which have no source and no target."""

    def __init__(
        self, patch_all_arguments: dict[str, Any], patch_all_kwargs: dict[str, Any]
    ) -> None:
        super().__init__(None, None)  # type: ignore[call-arg]
        self._patch_all_arguments = patch_all_arguments
        self._patch_all_kwargs = patch_all_kwargs

    @property
    def patch_all_arguments(self) -> dict[str, Any]:
        """A copy of the arguments of patch_all that it knows."""
        return self._patch_all_arguments.copy()

    @property
    def patch_all_kwargs(self) -> dict[str, Any]:
        """A copy of the others."""
        return self._patch_all_kwargs.copy()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._patch_all_arguments!r} at {id(self):#x}>"


class IGeventWillPatchAllEvent(IGeventWillPatchEvent):
    """patch_all begins. If a subscriber raises DoNotPatch, nothing is patched.

    There follow events for each module, then IGeventDidPatchBuiltinModulesEvent, which is the one
    to patch other libraries at, then IGeventDidPatchAllEvent.
    """

    patch_all_arguments = Attribute("A dict of the arguments of patch_all that it knows.")
    patch_all_kwargs = Attribute("A dict of the others.")

    def will_patch_module(module_name):  # type: ignore[no-untyped-def]  # noqa: N805 - no self
        """Tell whether the module of that name will be patched."""


@implementer(IGeventWillPatchAllEvent)
class GeventWillPatchAllEvent(_PatchAllEvent, GeventWillPatchEvent):
    """patch_all begins, unless a subscriber raises DoNotPatch.

    patch_all_arguments: the arguments of patch_all that it knows.
    patch_all_kwargs: the others.
    """

    #: The group of entry points that are called.
    ENTRY_POINT_NAME: ClassVar[str] = "gevent.plugins.monkey.will_patch_all"

    def will_patch_module(self, module_name: str) -> Any:
        """Tell whether the module of that name will be patched; None for one not known."""
        return self._patch_all_arguments.get(module_name)


class IGeventDidPatchBuiltinModulesEvent(IGeventDidPatchEvent):
    """patch_all has patched the standard library. The time to patch other libraries."""

    patch_all_arguments = Attribute("A dict of the arguments of patch_all that it knows.")
    patch_all_kwargs = Attribute("A dict of the others.")


@implementer(IGeventDidPatchBuiltinModulesEvent)
class GeventDidPatchBuiltinModulesEvent(_PatchAllEvent, GeventDidPatchEvent):
    """patch_all has patched the standard library. The time to patch other libraries.

    patch_all_arguments: the arguments of patch_all that it knows.
    patch_all_kwargs: the others.
    """

    #: The group of entry points that are called.
    ENTRY_POINT_NAME: ClassVar[str] = "gevent.plugins.monkey.did_patch_builtins"


class IGeventDidPatchAllEvent(IGeventDidPatchEvent):
    """patch_all is done, and so are the subscribers that patch other libraries."""


@implementer(IGeventDidPatchAllEvent)
class GeventDidPatchAllEvent(_PatchAllEvent, GeventDidPatchEvent):
    """patch_all is done, and so are the subscribers that patch other libraries.

    patch_all_arguments: the arguments of patch_all that it knows.
    patch_all_kwargs: the others.
    """

    #: The group of entry points that are called.
    ENTRY_POINT_NAME: ClassVar[str] = "gevent.plugins.monkey.did_patch_all"
