"""greenloop.config: what can be chosen before it is first used.

Each setting is an attribute. Its value is what was assigned to it, else that of its environment
variable, else the default.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from greenloop import _core

__all__ = ["Config", "config"]


class _Setting:
    """One attribute of Config.

    default: the value if nobody chose one; read as a text from the environment is.
    convert: makes the value that users of the setting get, of what was assigned or of the text
        of the environment variable.
    variables: names of environment variables, the first that is set counts.
    """

    def __init__(
        self, default: Any, convert: Callable[[Any], Any], variables: Sequence[str], doc: str
    ) -> None:
        self.default = default
        self.convert = convert
        self.variables = variables
        self.__doc__ = doc
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        try:
            return instance.__dict__[self.name]
        except KeyError:
            pass
        chosen = next(filter(None, map(os.environ.get, self.variables)), self.default)
        value = instance.__dict__[self.name] = self.convert(chosen)
        return value

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.name] = self.convert(value)


class _CoreSetting(_Setting):
    """A setting that the core keeps. It has read the environment when it was imported.

    get: returns the value.
    set: takes one over, or raises ValueError or TypeError.
    """

    def __init__(self, get: Callable[[], Any], set: Callable[[Any], None], doc: str) -> None:
        super().__init__(None, lambda value: value, (), doc)
        self.get = get
        self.set = set

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else self.get()

    def __set__(self, instance: Any, value: Any) -> None:
        self.set(value)


def _imported(short_names: Mapping[str, str]) -> Callable[[Any], Any]:
    """A converter to an object that may be named: "short name", "package.module.object", or
    several of them, separated by commas or as a list, of which the first counts that can be
    imported."""

    def convert(value: Any) -> Any:
        if isinstance(value, str):
            value = [name.strip() for name in value.split(",")]
        if not isinstance(value, (list, tuple)):
            return value
        failures = []
        for name in value:
            if not isinstance(name, str):
                return name
            module, _, attribute = short_names.get(name, name).rpartition(".")
            try:
                if not module:
                    raise ImportError(f"there is no {name!r}; known: {', '.join(short_names)}")
                return getattr(importlib.import_module(module), attribute)
            except (ImportError, AttributeError) as error:
                failures.append(error)
        raise ImportError("; ".join(map(str, failures))) from failures[0] if failures else None

    return convert


def _loop_class(value: Any) -> Any:
    """The class that a name of `config.loop` means, or the first there is of several names."""
    from greenloop import core

    names = {
        "default": "loop",
        "greenloop": "loop",
        "libev": "loop",
        "libuv": "loop",
        "libev-cext": "loop",
        "libev-cffi": "loop",
        "libuv-cffi": "loop",
    }
    classes = {name: f"greenloop.core.{attribute}" for name, attribute in names.items()}
    # The backends that only other systems have are names too, which nothing is found for.
    for backend in core._BACKENDS:
        there_is = backend in core.supported_backends()
        classes[backend] = f"greenloop.core.{backend.title() if there_is else backend}Loop"
    return _imported(classes)(value)


#: Settings of gevent for parts that greenloop does not have.
_NOT_HERE = frozenset(
    {
        "ares_flags",
        "ares_ndots",
        "ares_servers",
        "ares_tcp_port",
        "ares_timeout",
        "ares_tries",
        "ares_udp_port",
        "disable_watch_children",
        "fileobject",
        "max_blocking_time",
        "max_memory_usage",
        "memory_monitor_period",
        "monitor_thread",
        "print_blocking_reports",
        "resolver_nameservers",
        "resolver_timeout",
        "threadpool_idle_task_timeout",
        "trace_malloc",
        "track_greenlet_tree",
    }
)


class Config:
    """The settings. Those that exist are the attributes; another one raises AttributeError.

    Assigning one that only gevent has is warned of (RuntimeWarning): it changes nothing.
    """

    resolver = _Setting(
        "thread",
        _imported(
            {
                "thread": "greenloop.resolver.thread.Resolver",
                "block": "greenloop.resolver.blocking.Resolver",
            }
        ),
        ("GREENLOOP_RESOLVER", "GEVENT_RESOLVER"),
        "The class whose instances look up host names for a hub.",
    )
    loop = _Setting(
        "default",
        _loop_class,
        ("GREENLOOP_LOOP", "GEVENT_LOOP"),
        "The class of hubs' loops: one, or names of which the first counts that there is:"
        ' "default", "epoll", "poll", those of gevent\'s loops ("libev-cext", "libev-cffi",'
        ' "libuv-cffi"), which mean the default, or "package.module.class".',
    )
    libev_backend = _Setting(
        None,
        lambda value: value or None,
        ("GREENLOOP_BACKEND", "GEVENT_BACKEND"),
        "Which backends hubs' loops may use, as the argument `flags` of the loop's class;"
        " None for what the class says.",
    )
    threadpool = _Setting(
        "greenloop.threadpool.ThreadPool",
        _imported({}),
        ("GREENLOOP_THREADPOOL", "GEVENT_THREADPOOL"),
        "The class of a hub's pool of native threads.",
    )
    format_context = _Setting(
        repr,
        _imported({}),
        ("GREENLOOP_FORMAT_CONTEXT", "GEVENT_FORMAT_CONTEXT"),
        "A function that makes the text for what an error is reported of, a greenlet mostly.",
    )
    stack_size = _CoreSetting(
        _core.get_stack_size,
        _core.set_stack_size,
        "Bytes of address space for the C stack of a slot, 1 MiB to 1 GiB; may be assigned as a "
        'text with K, M or G: "2M". For slots that are mapped from then on by the thread that '
        "assigns it and by threads that have not used greenlets yet.",
    )
    stack_slots = _CoreSetting(
        _core.get_stack_slots,
        _core.set_stack_slots,
        "How many stack slots a thread maps at most, 4 to 16384. From when on: as stack_size.",
    )

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _NOT_HERE:
            warnings.warn(
                f"greenloop has no setting {name!r}: it changes nothing",
                RuntimeWarning,
                stacklevel=2,
            )
            return
        if not isinstance(getattr(type(self), name, None), _Setting):
            raise AttributeError(f"greenloop has no setting {name!r}")
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(sorted(settings(self)))}>"


def settings(config: Config) -> dict[str, str]:
    """The names of all settings, and what each means."""
    return {
        name: setting.__doc__ or ""
        for name, setting in vars(type(config)).items()
        if isinstance(setting, _Setting)
    }


#: The settings of this process.
config = Config()
