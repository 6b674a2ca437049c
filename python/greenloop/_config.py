"""greenloop.config: what can be chosen before it is first used.

Each setting is an attribute. Its value is what was assigned to it, else that of its environment
variable, else the default. `config.print_help()` prints them all.

The classes of the settings are at the end, those that gevent has too under the same names.
"""

from __future__ import annotations

import importlib
import os
import textwrap
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from greenloop import _core

__all__ = ["Config", "config"]

#: The classes of all settings, in the order in which they are documented.
ALL_SETTINGS: list[type[Setting]] = []


def validate_invalid(value: Any) -> Any:
    """Raise ValueError: a setting has to say what is valid."""
    raise ValueError(f"not a valid value: {value!r}")


def validate_anything(value: Any) -> Any:
    """Return the value as it is."""
    return value


def validate_bool(value: Any) -> bool:
    """Return the truth value; of a text what it says, in any case and with blanks around it.

    1, true, on and yes mean True; 0, false, off, no and an empty text mean False. Raises
    ValueError for other texts.
    """
    if not isinstance(value, str):
        return bool(value)
    word = value.strip().lower()
    if word in ("1", "true", "on", "yes"):
        return True
    if word in ("", "0", "false", "off", "no"):
        return False
    raise ValueError(f"expected one of 1, true, on, yes, 0, false, off, no, not {value!r}")


class Setting:
    """One setting of one Config: how its value is found and checked.

    Subclasses are registered in ALL_SETTINGS, and get an attribute of Config.
    """

    #: The attribute's name; the class' own in lower case unless given.
    name: ClassVar[str] = ""

    #: The environment variable that gevent reads; GEVENT_ and the name unless given.
    environment_key: ClassVar[str] = ""

    #: The value if nobody chose one; read as a text from the environment is.
    default: ClassVar[Any] = None

    #: Whether gevent's documentation has it.
    document: ClassVar[bool] = True

    #: What it means. The first line is a sentence.
    desc: ClassVar[str] = ""

    #: Told of the value whenever that changes; only for the settings of `config`.
    publish: Callable[[Any], object] | None = None

    #: Whether it is one of `config`.
    _counts = False

    validate: Callable[..., Any] = staticmethod(validate_invalid)

    def __init_subclass__(cls, abstract: bool = False) -> None:
        if abstract:
            return
        if "name" not in cls.__dict__:
            cls.name = cls.__name__.lower()
        if "environment_key" not in cls.__dict__:
            cls.environment_key = f"GEVENT_{cls.name.upper()}"
        cls.desc = textwrap.dedent(cls.desc).strip()
        cls.__doc__ = cls._describe()
        ALL_SETTINGS.append(cls)
        name = cls.name

        def get(config: Config) -> Any:
            return config.settings[name].get()

        def set_value(config: Config, value: Any) -> None:
            config.set(name, value)

        setattr(Config, name, property(get, set_value, doc=cls.__doc__))

    @classmethod
    def environment_keys(cls) -> tuple[str, ...]:
        """The environment variables that are read. The first that is set counts."""
        key = cls.environment_key
        if not key.startswith("GEVENT"):
            return (key,)
        return (f"GREENLOOP_{key.removeprefix('GEVENT').removeprefix('_')}", key)

    @classmethod
    def _describe(cls) -> str:
        parts = [cls.desc]
        if issubclass(cls, ImportableSetting):
            parts.append(
                "An object, or the name of one as a text, or a list of names (in the environment: "
                "separated by commas) of which the first counts that can be imported."
                + (f" Short names: {', '.join(cls.shortname_map)}." if cls.shortname_map else "")
            )
        keys = " or ".join(cls.environment_keys())
        parts.append(f"Environment: {keys}. Default: {cls.default!r}.")
        return "\n\n".join(parts)

    def _convert(self, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    def get(self) -> Any:
        """The value. That of the environment and the default are taken once."""
        try:
            return self.__dict__["value"]
        except KeyError:
            pass
        for key in self.environment_keys():
            text = os.environ.get(key)
            if text or (text is not None and isinstance(self, BoolSettingMixin)):
                try:
                    self.set(text)
                except Exception as error:
                    error.add_note(f"This is the value of the environment variable {key}.")
                    raise
                break
        else:
            self.set(self.default)
        return self.__dict__["value"]

    def set(self, value: Any) -> None:
        """Choose a value.

        Raises ValueError, TypeError or ImportError for one that cannot be.
        """
        self.__dict__["value"] = value = self.validate(self._convert(value))
        if self._counts and self.publish is not None:
            self.publish(value)


class Config:
    """The settings: attributes, which can be read and assigned.

    One that does not exist raises AttributeError. Most are read when they are first needed, so
    they are best assigned at the start of a program.
    """

    settings: dict[str, Setting]

    def __init__(self) -> None:
        # Past our own __setattr__.
        vars(self)["settings"] = {kind.name: kind() for kind in ALL_SETTINGS}

    def __getattr__(self, name: str) -> Any:
        try:
            setting = self.settings[name]
        except KeyError:
            raise AttributeError(f"greenloop has no setting {name!r}") from None
        return setting.get()

    def __setattr__(self, name: str, value: Any) -> None:
        self.set(name, value)

    def set(self, name: str, value: Any) -> None:
        """Assign a setting.

        name: its name.
        value: what is assigned; texts are read as those of environment variables are.

        Raises AttributeError if there is no such setting, and ValueError, TypeError or ImportError
        for a value that it cannot have.
        """
        try:
            setting = self.settings[name]
        except KeyError:
            raise AttributeError(f"greenloop has no setting {name!r}") from None
        setting.set(value)

    def __dir__(self) -> list[str]:
        return list(self.settings)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(sorted(self.settings))}>"

    def print_help(self) -> None:
        """Print the name of each setting, what it means, and how it is chosen."""
        for name, setting in self.settings.items():
            print(name)
            print(textwrap.indent(setting.__doc__ or "", "    "))
            print()


class ImportableSetting:
    """A setting whose value is an object, which can be chosen by its name.

    Names are texts as "package.module.object", or short ones.
    """

    shortname_map: ClassVar[dict[str, str]] = {}

    def _import_one_of(self, candidates: list[Any]) -> Any:
        """Return the first of several objects, or names of objects, that can be imported.

        Raises ImportError if none can.
        """
        failures: list[Exception] = []
        for candidate in candidates:
            try:
                return self._import_one(candidate)
            except ImportError as error:
                failures.append(error)
        if not failures:
            raise ImportError("Cannot import from empty list")
        if len(failures) == 1:
            raise failures[0]
        raise ImportError("; ".join(map(str, failures))) from failures[0]

    def _import_one(self, path: Any) -> Any:
        """Return the object of a name, or what is no text as it is.

        Raises ImportError if there is no such object.
        """
        if not isinstance(path, str):
            return path
        module, _, item = path.rpartition(".")
        if not module or "/" in path:
            known = ", ".join(self.shortname_map) or "none"
            raise ImportError(
                f"Cannot import {path!r}: expected package.module.object, or a short name ({known})"
            )
        try:
            return getattr(importlib.import_module(module), item)
        except AttributeError:
            raise ImportError(f"Cannot import {item!r} from {module!r}") from None

    def validate(self, value: Any) -> Any:
        """Return the object: the value itself, or the first of a list that can be imported.

        Raises ImportError if none can, TypeError if it cannot be called.
        """
        if isinstance(value, (list, tuple)):
            names = (name.strip() if isinstance(name, str) else name for name in value)
            value = self._import_one_of(
                [self.shortname_map.get(n, n) if isinstance(n, str) else n for n in names]
            )
        if not callable(value):
            raise TypeError(f"must be a class or function, or the name of one, not {value!r}")
        return value

    def get_options(self) -> dict[str, Any]:
        """Return what each short name stands for: the object, or the ImportError."""
        options: dict[str, Any] = {}
        for name, path in self.shortname_map.items():
            try:
                options[name] = self._import_one(path)
            except ImportError as error:
                options[name] = error
        return options


class BoolSettingMixin:
    """A setting that is on or off."""

    validate = staticmethod(validate_bool)
    _convert = staticmethod(validate_anything)


class IntSettingMixin:
    """A setting that is a whole number; 0, None and an empty text mean None."""

    validate = staticmethod(validate_anything)

    def _convert(self, value: Any) -> int | None:
        return int(value) if value else None


def _positive(value: Any) -> Any:
    # Not a number is not either.
    if value is not None and not value > 0:
        raise ValueError(f"must be positive, not {value!r}")
    return value


class FloatSettingMixin:
    """A setting that is a positive number; 0, None and an empty text mean None."""

    validate = staticmethod(_positive)

    def _convert(self, value: Any) -> float | None:
        return float(value) if value else None


class ByteCountSettingMixin:
    """A setting that is a positive number of bytes. A text may end in kb, mb or gb."""

    validate = staticmethod(_positive)

    _UNITS: ClassVar[dict[str, int]] = {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}

    def _convert(self, value: Any) -> int | None:
        if value == float("inf"):
            raise ValueError("must be finite; None means no limit")
        if not isinstance(value, str):
            return None if value is None else int(value)
        text = value.strip().lower()
        unit = self._UNITS.get(text[-2:])
        if unit is not None:
            return int(text[:-2]) * unit
        return int(text) if text else None


class AresSettingMixin:
    """A setting of the resolvers that make their own queries."""

    validate = staticmethod(validate_anything)
    _convert = staticmethod(validate_anything)


class CoreSetting(Setting, abstract=True):
    """A setting that the core keeps. It has read the environment when it was imported."""

    #: Returns the value.
    get_value: ClassVar[Callable[[], Any]]

    #: Takes a value over; raises ValueError or TypeError for one that cannot be.
    set_value: ClassVar[Callable[..., None]]

    def get(self) -> Any:
        """The value."""
        return type(self).get_value()

    def set(self, value: Any) -> None:
        """Choose a value."""
        type(self).set_value(value)


# --- the settings


class Resolver(ImportableSetting, Setting):
    desc = """\
    What makes the objects that look up host names, one for each hub: a class or function, called
    with the keyword argument hub. "thread", "native", "block", "dnspython" and "ares" mean those
    of greenloop.resolver. Of several names, the first counts that can be imported.
    """
    default = ("thread", "block")
    shortname_map: ClassVar[dict[str, str]] = {
        "thread": "greenloop.resolver.thread.Resolver",
        "native": "greenloop.resolver.native.Resolver",
        "block": "greenloop.resolver.blocking.Resolver",
        "dnspython": "greenloop.resolver.dnspython.Resolver",
        "ares": "greenloop.resolver.ares.Resolver",
    }


class Threadpool(ImportableSetting, Setting):
    desc = "The class of a hub's pool of native threads."
    default = "greenloop.threadpool.ThreadPool"


class ThreadpoolIdleTaskTimeout(FloatSettingMixin, Setting):
    desc = """\
    For how many seconds a thread of a hub's pool waits for something to do before it ends.

    -1 and 0 mean for ever.
    """
    name = "threadpool_idle_task_timeout"
    default = 5.0

    @staticmethod
    def validate(value: float | None) -> float | None:
        return value if value == -1 else _positive(value)


class Loop(ImportableSetting, Setting):
    desc = """\
    The class of hubs' loops; of several names, the first counts that the system has.

    "epoll" and "poll" mean loops on these backends, "default" and the names of gevent's loops the
    one that takes the best backend. hub.loop.backend tells which.
    """
    default = "default"
    shortname_map: ClassVar[dict[str, str]] = dict.fromkeys(
        (
            "default",
            "greenloop",
            "libev",
            "libuv",
            "libev-cext",
            "libev-cffi",
            "libuv-cffi",
        ),
        "greenloop.core.loop",
    ) | {
        # Those that only other systems have are names too, for lists that suit several systems.
        "epoll": "greenloop.core.EpollLoop",
        "poll": "greenloop.core.PollLoop",
        "select": "greenloop.core.PollLoop",
        "kqueue": "greenloop.core.KqueueLoop",
        "linux_iouring": "greenloop.core.IouringLoop",
        "linux_aio": "greenloop.core.AioLoop",
        "port": "greenloop.core.PortLoop",
    }


class FormatContext(ImportableSetting, Setting):
    desc = "The function that makes the text for what an error is reported of, a greenlet mostly."
    name = "format_context"
    default = "pprint.saferepr"


class LibevBackend(Setting):
    desc = """\
    Which backends hubs' loops may use, as the argument flags of the loop's class.

    None for what the class says.
    """
    name = "libev_backend"
    environment_key = "GEVENT_BACKEND"
    validate = staticmethod(validate_anything)


class FileObject(ImportableSetting, Setting):
    desc = """\
    The class of greenloop.fileobject.FileObject: "posix", "thread", "block", or an object.

    It is taken when that module is first imported.
    """
    environment_key = "GEVENT_FILE"
    default = ("posix", "thread")
    shortname_map: ClassVar[dict[str, str]] = {
        "posix": "greenloop._fileobjectposix.FileObjectPosix",
        "thread": "greenloop._fileobjectcommon.FileObjectThread",
        "block": "greenloop._fileobjectcommon.FileObjectBlock",
    }


class WatchChildren(BoolSettingMixin, Setting):
    desc = """\
    Whether child processes are not to be watched by the loop.

    No effect in greenloop, where waiting for a child never takes its status away from others.
    """
    name = "disable_watch_children"
    environment_key = "GEVENT_NOWAITPID"
    default = False


class TraceMalloc(IntSettingMixin, Setting):
    desc = """\
    Whether objects of gevent's cffi loops note where they were made.

    No effect in greenloop, which has no such loops. The interpreter reads the variable itself.
    """
    name = "trace_malloc"
    environment_key = "PYTHONTRACEMALLOC"
    default = False


class StackSize(CoreSetting):
    desc = """\
    Bytes of address space for the C stack of a slot, 1 MiB to 1 GiB.

    May be assigned as a text with K, M or G: "2M". For slots that are mapped from then on by the
    thread that assigns it and by threads that have not used greenlets yet.
    """
    name = "stack_size"
    environment_key = "GREENLOOP_STACK_SIZE"
    default = 8 << 20
    get_value = staticmethod(_core.get_stack_size)
    set_value = staticmethod(_core.set_stack_size)


class StackSlots(CoreSetting):
    desc = """\
    How many stack slots a thread maps at most, 4 to 16384.

    From when on: as stack_size.
    """
    name = "stack_slots"
    environment_key = "GREENLOOP_STACK_SLOTS"
    default = 256
    get_value = staticmethod(_core.get_stack_slots)
    set_value = staticmethod(_core.set_stack_slots)


class TrackGreenletTree(BoolSettingMixin, Setting):
    desc = """\
    Whether greenlets note who spawned them, and where.

    If not, spawning_greenlet, spawning_stack and spawn_tree_locals of greenlets that are made from
    then on are None, and spawning takes a little less time and memory.
    """
    name = "track_greenlet_tree"
    default = True
    publish = staticmethod(_core._track_greenlet_tree)


class InheritContext(BoolSettingMixin, Setting):
    desc = """\
    Whether greenlets run in a copy of the contextvars.Context of who spawns them.

    So do asyncio's tasks. Otherwise they run in an empty one, as in gevent.
    """
    name = "inherit_context"
    environment_key = "GREENLOOP_INHERIT_CONTEXT"
    default = False
    publish = staticmethod(_core._inherit_contexts)


class MonitorThread(BoolSettingMixin, Setting):
    desc = """\
    Whether each hub starts a native thread that looks after it, when it first runs.

    It reports greenlets that keep others from running for max_blocking_time, and memory use above
    max_memory_usage. See greenloop.hub.Hub.start_periodic_monitoring_thread.
    """
    name = "monitor_thread"
    environment_key = "GEVENT_MONITOR_THREAD_ENABLE"
    default = False


class MaxBlockingTime(FloatSettingMixin, Setting):
    desc = """\
    For how many seconds, about, a greenlet may run before it is reported as blocking.

    None not to look. Needs monitor_thread; may be changed at any time.
    """
    name = "max_blocking_time"
    default = 0.1


class PrintBlockingReports(BoolSettingMixin, Setting):
    desc = """\
    Whether reports of greenlets that block are printed to the hub's exception_stream.

    Subscribers of greenloop.events are told in any case.
    """
    name = "print_blocking_reports"
    environment_key = "GEVENT_MONITOR_PRINT_BLOCKING_REPORTS"
    default = True


class MonitorMemoryPeriod(FloatSettingMixin, Setting):
    desc = """\
    How often, in seconds, the memory use is looked at; 2 at least.

    Needs monitor_thread.
    """
    name = "memory_monitor_period"
    environment_key = "GEVENT_MONITOR_MEMORY_PERIOD"
    default = 5


class MonitorMemoryMaxUsage(ByteCountSettingMixin, Setting):
    desc = """\
    How many bytes of memory the process may use before subscribers of greenloop.events are told.

    None not to look. In a text, kb, mb and gb may follow the number. Needs monitor_thread.
    """
    name = "max_memory_usage"
    environment_key = "GEVENT_MONITOR_MEMORY_MAX"


_ARES = 'For the resolver "ares".'
_OWN_QUERIES = 'For the resolvers "native", "ares" and "dnspython".'


class ResolverNameservers(AresSettingMixin, Setting):
    desc = f"""\
    The addresses of the name servers to ask: a list, or a text with commas.

    {_OWN_QUERIES}
    """
    name = "resolver_nameservers"
    _convert = Setting._convert


class ResolverTimeout(FloatSettingMixin, AresSettingMixin, Setting):
    desc = f"""\
    How many seconds to wait for the first name server's answer; with "dnspython", how many a
    look-up may take.

    {_OWN_QUERIES}
    """
    name = "resolver_timeout"


class AresFlags(AresSettingMixin, Setting):
    desc = f"""\
    Flags of c-ares.

    {_ARES}
    """
    name = "ares_flags"
    environment_key = "GEVENTARES_FLAGS"
    document = False


class AresTimeout(AresSettingMixin, Setting):
    desc = f"""\
    As resolver_timeout, which is to be preferred.

    {_ARES}
    """
    name = "ares_timeout"
    environment_key = "GEVENTARES_TIMEOUT"


class AresTries(AresSettingMixin, Setting):
    desc = f"""\
    How often each name server is asked.

    {_ARES}
    """
    name = "ares_tries"
    environment_key = "GEVENTARES_TRIES"
    document = False


class AresNdots(AresSettingMixin, Setting):
    desc = f"""\
    Names with so many dots are tried as full ones first.

    {_ARES}
    """
    name = "ares_ndots"
    environment_key = "GEVENTARES_NDOTS"
    document = False


class AresUDPPort(AresSettingMixin, Setting):
    desc = f"""\
    The UDP port of name servers.

    {_ARES}
    """
    name = "ares_udp_port"
    environment_key = "GEVENTARES_UDP_PORT"
    document = False


class AresTCPPort(AresSettingMixin, Setting):
    desc = f"""\
    The TCP port of name servers.

    {_ARES}
    """
    name = "ares_tcp_port"
    environment_key = "GEVENTARES_TCP_PORT"
    document = False


class AresServers(AresSettingMixin, Setting):
    desc = f"""\
    As resolver_nameservers, which is to be preferred.

    {_ARES}
    """
    name = "ares_servers"
    environment_key = "GEVENTARES_SERVERS"


def publish_all(settings: Iterable[Setting]) -> None:
    """Tell of the values of those settings that somebody is to be told of, from now on."""
    for setting in settings:
        setting._counts = True
        if setting.publish is not None:
            # Taken for the first time, which tells.
            setting.get()


#: The settings of this process.
config = Config()
publish_all(config.settings.values())
