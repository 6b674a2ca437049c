"""sleep and idle, and what a sleeping greenlet lets run."""

import time

import gevent
import pytest


def test_sleep_lasts_at_least_as_long_as_asked():
    began = time.monotonic()
    assert gevent.sleep(0.02) is None
    assert time.monotonic() - began >= 0.019


def test_sleepers_wake_in_the_order_of_their_deadlines():
    woken = []

    def sleeper(seconds):
        gevent.sleep(seconds)
        woken.append(seconds)

    gevent.joinall([gevent.spawn(sleeper, s) for s in (0.06, 0.02, 0.04)])
    assert woken == [0.02, 0.04, 0.06]


def test_sleepers_sleep_together_not_one_after_another():
    began = time.monotonic()
    gevent.joinall([gevent.spawn(gevent.sleep, 0.05) for _ in range(200)])
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("seconds", [(), (0,), (0.0,), (-1,), (False,)])
def test_sleep_of_nothing_yields_and_returns(seconds):
    ran = []
    gevent.spawn(ran.append, 1)
    assert gevent.sleep(*seconds) is None
    assert ran == [1]


def test_sleep_zero_yields_to_every_ready_greenlet():
    ran = []
    for i in range(200):
        gevent.spawn(ran.append, i)
    gevent.sleep(0)
    assert ran == list(range(200))


def test_sleep_zero_takes_turns():
    log = []

    def function(name):
        for i in range(3):
            log.append((name, i))
            gevent.sleep(0)

    gevent.joinall([gevent.spawn(function, name) for name in "abc"])
    assert log == [(name, i) for i in range(3) for name in "abc"]


def test_sleep_zero_repeated_lets_timers_fire():
    fired = []
    gevent.spawn_later(0.001, fired.append, 1)
    with gevent.Timeout(20):
        while not fired:
            gevent.sleep(0)
    assert fired == [1]


def test_sleep_accepts_a_keyword_and_whole_numbers():
    gevent.sleep(seconds=0.001)
    gevent.sleep(0.001, ref=True)
    gevent.sleep(seconds=0)


@pytest.mark.parametrize("bad", [None, "1", object(), [1]])
def test_sleep_of_something_that_is_no_number(bad):
    with pytest.raises(TypeError):
        gevent.sleep(bad)


def test_a_greenlet_killed_in_sleep_leaves_the_timer_behind_harmlessly():
    g = gevent.spawn(gevent.sleep, 0.01)
    gevent.sleep(0)
    g.kill()
    gevent.sleep(0.02)
    assert g.dead


def test_sleep_of_a_huge_number_can_be_interrupted():
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.01):
        gevent.sleep(10**8)


def test_sleep_in_the_main_greenlet_and_in_others_interleave():
    log = []

    def function():
        log.append("a")
        gevent.sleep(0)
        log.append("c")

    gevent.spawn(function)
    gevent.sleep(0)
    log.append("b")
    gevent.sleep(0)
    assert log == ["a", "b", "c"]


def test_idle_waits_until_nothing_else_is_ready():
    log = []

    def busy():
        for _ in range(3):
            log.append("busy")
            gevent.sleep(0)

    gevent.spawn(busy)
    assert gevent.idle() is None
    log.append("idle")
    assert log == ["busy", "busy", "busy", "idle"]


def test_idle_with_nothing_to_wait_for_returns():
    gevent.idle()
    gevent.idle(priority=1)


def test_idle_can_be_interrupted():
    def busy():
        while True:
            gevent.sleep(0)

    g = gevent.spawn(busy)
    with gevent.Timeout(0.02, False):
        gevent.sleep(1)
    g.kill()
    gevent.idle()
    assert g.dead


def test_sleep_without_ref_does_not_hold_up_wait(run_script):
    result = run_script(
        """
        import gevent

        g = gevent.spawn(gevent.sleep, 1000, ref=False)
        gevent.sleep(0)
        print(gevent.wait())
        """
    )
    assert result.stdout == "True\n"
