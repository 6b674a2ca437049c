"""spawn, spawn_later, spawn_raw, getcurrent, kill and the order greenlets run in."""

import time

import gevent
import greenlet
import pytest
from gevent import Greenlet, GreenletExit


def test_spawn_does_not_run_the_function_before_the_spawner_blocks():
    ran = []
    g = gevent.spawn(ran.append, 1)
    assert ran == []
    g.join()
    assert ran == [1]


def test_spawn_passes_positional_and_keyword_arguments():
    def function(*args, **kwargs):
        return args, kwargs

    g = gevent.spawn(function, 1, 2, three=3)
    assert g.get() == ((1, 2), {"three": 3})


def test_spawn_accepts_keywords_that_other_calls_use_for_themselves():
    def function(**kwargs):
        return kwargs

    g = gevent.spawn(function, timeout=1, block=2, seconds=3, exception=4)
    assert g.get() == {"timeout": 1, "block": 2, "seconds": 3, "exception": 4}


def test_spawn_returns_a_greenlet_of_both_types():
    g = gevent.spawn(len, "")
    assert type(g) is gevent.Greenlet
    assert isinstance(g, greenlet.greenlet)
    g.join()


def test_spawned_greenlets_run_in_the_order_spawned():
    ran = []
    gevent.joinall([gevent.spawn(ran.append, i) for i in range(100)])
    assert ran == list(range(100))


def test_mixed_kinds_of_spawn_run_in_the_order_spawned():
    ran = []
    gevent.spawn(ran.append, 1)
    gevent.spawn_raw(ran.append, 2)
    gevent.get_hub().loop.run_callback(ran.append, 3)
    Greenlet.spawn(ran.append, 4)
    gevent.sleep(0)
    assert ran == [1, 2, 3, 4]


def test_a_greenlet_spawned_by_a_greenlet_runs_after_those_already_ready():
    ran = []

    def parent():
        ran.append("parent")
        gevent.spawn(ran.append, "child")

    gevent.spawn(parent)
    gevent.spawn(ran.append, "sibling")
    gevent.sleep(0)
    gevent.sleep(0)
    assert ran == ["parent", "sibling", "child"]


@pytest.mark.parametrize("bad", [5, "text", object(), ()])
def test_spawn_of_something_not_callable(bad):
    with pytest.raises(TypeError):
        gevent.spawn(bad)
    with pytest.raises(TypeError):
        gevent.spawn_later(0, bad)
    with pytest.raises(TypeError):
        gevent.spawn_raw(bad)


def test_spawn_with_arguments_the_function_rejects_fails_in_the_greenlet(capsys):
    g = gevent.spawn(len)
    g.join()
    assert isinstance(g.exception, TypeError)
    assert "failed with TypeError" in capsys.readouterr().err


def test_spawn_later_runs_after_the_delay():
    began = time.monotonic()
    g = gevent.spawn_later(0.02, time.monotonic)
    assert g.get() - began >= 0.019


def test_spawn_later_runs_shorter_delays_first():
    ran = []
    late = gevent.spawn_later(0.06, ran.append, "late")
    early = gevent.spawn_later(0.01, ran.append, "early")
    gevent.joinall([late, early])
    assert ran == ["early", "late"]


def test_spawn_later_with_equal_delays_keeps_the_order():
    ran = []
    gevent.joinall([gevent.spawn_later(0.01, ran.append, i) for i in range(20)])
    assert ran == list(range(20))


@pytest.mark.parametrize("delay", [0, 0.0, -1])
def test_spawn_later_without_a_positive_delay_still_runs(delay):
    assert gevent.spawn_later(delay, len, "abc").get() == 3


@pytest.mark.parametrize("delay", ["soon", None, object()])
def test_spawn_later_with_a_delay_that_is_no_number(delay):
    with pytest.raises(TypeError):
        gevent.spawn_later(delay, len, "")


def test_spawn_later_needs_a_delay():
    with pytest.raises(TypeError):
        gevent.spawn_later()


def test_spawn_later_can_be_killed_before_it_runs():
    ran = []
    g = gevent.spawn_later(0.01, ran.append, 1)
    g.kill()
    gevent.sleep(0.03)
    assert ran == []
    assert g.dead
    assert isinstance(g.value, GreenletExit)


def test_spawn_raw_runs_the_function_in_a_plain_greenlet():
    seen = []

    def function(a, b=None):
        seen.append((gevent.getcurrent(), a, b))

    g = gevent.spawn_raw(function, 1, b=2)
    assert isinstance(g, greenlet.greenlet)
    assert not isinstance(g, gevent.Greenlet)
    assert seen == []
    gevent.sleep(0)
    assert seen == [(g, 1, 2)]
    assert g.dead


def test_spawn_raw_greenlet_takes_attributes():
    g = gevent.spawn_raw(len, "")
    g.note = "kept"
    assert g.note == "kept"
    gevent.sleep(0)


def test_spawn_raw_has_the_hub_as_parent():
    g = gevent.spawn_raw(len, "")
    assert g.parent is gevent.get_hub()
    gevent.sleep(0)


def test_spawn_raw_that_raises_is_reported_and_survived(capsys):
    gevent.spawn_raw(int, "not a number")
    ran = []
    gevent.spawn(ran.append, 1)
    gevent.sleep(0)
    assert ran == [1]
    err = capsys.readouterr().err
    assert "ValueError: invalid literal for int()" in err
    assert "failed with ValueError" in err


def test_spawn_raw_needs_a_function():
    with pytest.raises(TypeError):
        gevent.spawn_raw()


def test_getcurrent_in_main_and_in_a_greenlet():
    assert gevent.getcurrent() is greenlet.getcurrent()
    g = gevent.spawn(gevent.getcurrent)
    assert g.get() is g


def test_kill_function_does_not_switch(never_switches):
    g = gevent.spawn(gevent.sleep, 10)
    gevent.sleep(0)
    with never_switches():
        gevent.kill(g)
        assert not g.dead
    g.join()
    assert isinstance(g.value, GreenletExit)


def test_kill_function_on_a_raw_greenlet():
    caught = []

    def function():
        try:
            gevent.sleep(10)
        except ValueError as error:
            caught.append(str(error))

    g = gevent.spawn_raw(function)
    gevent.sleep(0)
    gevent.kill(g, ValueError("stop"))
    assert caught == []
    gevent.sleep(0)
    assert caught == ["stop"]
    assert g.dead


def test_kill_function_before_the_first_switch():
    ran = []
    g = gevent.spawn(ran.append, 1)
    gevent.kill(g)
    g.join()
    gevent.sleep(0)
    assert ran == []


def test_kill_function_on_a_finished_greenlet_does_nothing():
    g = gevent.spawn(len, "ab")
    g.join()
    gevent.kill(g)
    gevent.sleep(0)
    assert g.value == 2


def test_killed_greenlets_die_in_the_order_killed():
    order = []

    def function(i):
        try:
            gevent.sleep(10)
        finally:
            order.append(i)

    gs = [gevent.spawn(function, i) for i in range(5)]
    gevent.sleep(0)
    for i in (3, 0, 4, 1, 2):
        gevent.kill(gs[i])
    gevent.joinall(gs)
    assert order == [3, 0, 4, 1, 2]


def test_ten_thousand_greenlets_all_run():
    total = []
    gs = [gevent.spawn(total.append, i) for i in range(10_000)]
    gevent.joinall(gs)
    assert total == list(range(10_000))
