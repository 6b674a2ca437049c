"""Modules of gevent that are few lines, but imported by name."""

import contextvars
import gc
import importlib
import os
import signal
import sys

import gevent
import pytest

PEER = os.environ.get("GREENLOOP_TEST_PEER") == "1"


def test_context_variables_belong_to_greenlets():
    from gevent.contextvars import Context, ContextVar, Token, copy_context

    variable = ContextVar("variable", default="default")
    token = variable.set("mine")
    assert isinstance(token, Token)

    def other():
        before = variable.get()
        variable.set("other's")
        return before

    g = gevent.spawn(other)
    assert g.get() == "default"
    assert variable.get() == "mine"
    context = copy_context()
    assert isinstance(context, Context)
    assert context[variable] == "mine"
    assert context.run(variable.get) == "mine"
    variable.reset(token)
    assert variable.get() == "default"


def test_the_standard_module_is_patched_by_nothing(run_script):
    script = """
        import contextvars
        from gevent import monkey

        before = contextvars.ContextVar
        monkey.patch_all()
        print(contextvars.ContextVar is before)
        """
    assert run_script(script).check_quiet() == "True\n"
    assert contextvars.copy_context()


def test_signal_has_the_standard_names():
    green = importlib.import_module("gevent.signal")
    assert green.SIGTERM is signal.SIGTERM
    before = green.getsignal(signal.SIGUSR2)
    called = []
    green.signal(signal.SIGUSR2, lambda *args: called.append(args[0]))
    try:
        signal.raise_signal(signal.SIGUSR2)
        gevent.sleep(0.001)
    finally:
        green.signal(signal.SIGUSR2, before)
    assert called == [signal.SIGUSR2]


@pytest.mark.filterwarnings("ignore")
def test_former_names_of_resolvers():
    from gevent.resolver.thread import Resolver
    from gevent.resolver_thread import Resolver as Former

    assert Former is Resolver


def test_lazy_attributes():
    from gevent._util import Lazy, LazyOnClass, readproperty

    made = []

    class Thing:
        @Lazy
        def lazy(self):
            """Made once."""
            made.append("lazy")
            return len(made)

        @readproperty
        def read(self):
            made.append("read")
            return len(made)

        LazyOnClass.lazy(locals(), lambda self: made.append("class"))

    thing = Thing()
    assert (thing.lazy, thing.lazy) == (1, 1)
    thing.lazy = 5
    assert thing.lazy == 5
    assert Thing.lazy.__doc__ == "Made once."
    assert (thing.read, thing.read) == (2, 3)
    thing.read = 7
    assert thing.read == 7
    assert isinstance(Thing.read, readproperty)
    name = "<lambda>"
    assert getattr(thing, name) is None
    assert vars(Thing)[name] is None
    assert made == ["lazy", "read", "read", "class"]


def test_copy_globals():
    from gevent._util import copy_globals

    target = {}
    names = copy_globals(
        signal, target, only_names=["SIGTERM", "nothing"], ignore_missing_names=True
    )
    assert names == ["SIGTERM"]
    assert target == {"SIGTERM": signal.SIGTERM}
    with pytest.raises(AttributeError):
        copy_globals(signal, {}, only_names=["nothing"])
    names = copy_globals(signal, target, names_to_ignore=["SIGINT"])
    assert "SIGUSR1" in names
    assert "SIGINT" not in target
    assert "__name__" not in target


def test_hub_local():
    from gevent import _hub_local
    from gevent.hub import Hub, get_hub

    assert _hub_local.get_hub() is _hub_local.get_hub_noargs() is get_hub()
    assert _hub_local.get_hub_if_exists() is get_hub()
    assert issubclass(_hub_local.get_hub_class(), Hub)


def test_hubs_of_another_class(run_script):
    script = """
        import gevent.hub
        from gevent._hub_local import get_hub_class

        class OtherHub(gevent.hub.Hub):
            pass

        gevent.hub.set_default_hub_class(OtherHub)
        print(get_hub_class().__name__, type(gevent.get_hub()).__name__)
        gevent.sleep(0.001)
        """
    assert run_script(script).check_quiet() == "OtherHub OtherHub\n"


def test_multiple_waiter():
    from gevent._waiter import MultipleWaiter, Waiter

    waiter = MultipleWaiter()
    assert isinstance(waiter, Waiter)
    run_callback = gevent.get_hub().loop.run_callback
    for value in "abc":
        run_callback(waiter.switch, value)
    assert [waiter.get(), waiter.get(), waiter.get()] == ["a", "b", "c"]
    waiter = MultipleWaiter()
    waiter.switch("early")
    assert waiter.get() == "early"


@pytest.mark.skipif(PEER, reason="gevent's fails when it was not waited for the first value")
def test_multiple_waiter_waits_again():
    from gevent._waiter import MultipleWaiter

    waiter = MultipleWaiter()
    for value in ("early", "late"):
        waiter.switch(value)
    assert [waiter.get(), waiter.get()] == ["early", "late"]
    gevent.spawn_later(0.001, waiter.switch, "later")
    assert waiter.get() == "later"


def test_idents():
    from gevent._ident import IdentRegistry

    class Thing:
        pass

    registry = IdentRegistry()
    things = [Thing() for _ in range(3)]
    assert [registry.get_ident(thing) for thing in things] == [0, 1, 2]
    assert registry.get_ident(things[1]) == 1
    assert len(registry) == 3
    del things[0]
    gc.collect()
    assert len(registry) == 2
    new = Thing()
    assert registry.get_ident(new) == 0
    with pytest.raises(TypeError):
        registry.get_ident(object())


def test_interfaces():
    from gevent._interfaces import ICallback, ILoop, IWatcher

    assert ILoop.__name__ == "ILoop"
    assert IWatcher.__name__ == "IWatcher"
    assert ICallback.__name__ == "ICallback"
    assert "gevent._interfaces" in sys.modules
