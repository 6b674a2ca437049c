"""Which contextvars.Context a greenlet runs in: `context=` and `config.inherit_context`."""

import contextvars
import os
import subprocess
import sys

import pytest

import greenloop
from greenloop import Greenlet, config, sleep, spawn, spawn_later, spawn_raw
from greenloop.pool import Group, Pool

variable = contextvars.ContextVar("variable", default="default")


@pytest.fixture
def spawner_value():
    token = variable.set("spawner")
    yield
    variable.reset(token)


@pytest.fixture
def inherit():
    config.inherit_context = True
    yield
    config.inherit_context = False


def raw(function, *args, **kwargs):
    """spawn_raw, with a result."""
    results = []
    spawn_raw(lambda *a, **k: results.append(function(*a, **k)), *args, **kwargs)
    sleep(0)
    return results[0]


class Sub(Greenlet):
    pass


SPAWNS = {
    "spawn": lambda *a, **k: spawn(*a, **k).get(),
    "spawn_later": lambda *a, **k: spawn_later(0, *a, **k).get(),
    "subclass": lambda *a, **k: Sub.spawn(*a, **k).get(),
    "spawn_raw": raw,
    "group": lambda *a, **k: Group().spawn(*a, **k).get(),
    "pool": lambda *a, **k: Pool(1).spawn(*a, **k).get(),
}


@pytest.fixture(params=SPAWNS)
def run(request):
    return SPAWNS[request.param]


def test_empty_unless_chosen(run, spawner_value):
    assert run(variable.get) == "default"


def test_a_given_context_is_used_itself(run, spawner_value):
    context = contextvars.copy_context()
    assert run(variable.get, context=context) == "spawner"
    run(variable.set, "from inside", context=context)
    assert context[variable] == "from inside"
    assert variable.get() == "spawner"


def test_it_is_not_passed_on(run):
    def call(*args, **kwargs):
        return args, kwargs

    context = contextvars.Context()
    assert run(call, 1, context=context) == ((1,), {})
    assert run(call, 1, context=context, other=2) == ((1,), {"other": 2})


@pytest.mark.parametrize("value", [None, 1, {"request": 1}])
def test_anything_else_is_an_argument(run, value):
    def call(context):
        return context

    assert run(call, context=value) is value


def test_inherited_if_that_is_the_setting(run, spawner_value, inherit):
    assert run(variable.get) == "spawner"
    run(variable.set, "from inside")
    assert variable.get() == "spawner"


def test_a_given_one_comes_first(run, spawner_value, inherit):
    assert run(variable.get, context=contextvars.Context()) == "default"


def test_taken_when_the_greenlet_is_started(spawner_value, inherit):
    greenlet = Greenlet(variable.get)
    token = variable.set("at the start")
    greenlet.start()
    variable.reset(token)
    assert greenlet.get() == "at the start"


def test_gr_context_stays(spawner_value, inherit):
    greenlet = Greenlet(variable.get)
    greenlet.gr_context = contextvars.Context()
    greenlet.start()
    assert greenlet.get() == "default"


def test_mapped(spawner_value, inherit):
    assert Pool(2).map(lambda _: variable.get(), range(3)) == ["spawner"] * 3


def test_gr_context_of_a_given_one():
    context = contextvars.Context()
    greenlet = Greenlet(int, context=context)
    assert greenlet.gr_context is context
    assert greenlet.kwargs == {}
    greenlet.kill()


def test_chosen_by_the_environment():
    program = """
import contextvars, greenloop
variable = contextvars.ContextVar("variable", default="empty")
variable.set("copied")
print(greenloop.spawn(variable.get).get())
"""
    for value, printed in (("1", "copied"), ("off", "empty")):
        ran = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "GREENLOOP_INHERIT_CONTEXT": value},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert ran.stdout.strip() == printed


def test_a_word_that_means_nothing():
    with pytest.raises(ValueError, match="perhaps"):
        config.inherit_context = "perhaps"
    assert config.inherit_context is False
    assert greenloop.config is config
