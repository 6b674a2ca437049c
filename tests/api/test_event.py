"""Event."""

import weakref

import gevent
import pytest
from gevent import Timeout
from gevent.event import Event


def test_set_and_clear():
    event = Event()
    assert event.is_set() is False
    assert event.set() is None
    assert event.is_set() is True
    event.set()
    assert event.clear() is None
    assert event.is_set() is False
    event.clear()
    assert event.isSet() is False
    assert event.ready() is False


def test_wait_when_set_returns_true_at_once(never_switches):
    event = Event()
    event.set()
    with never_switches():
        assert event.wait() is True
        assert event.wait(timeout=1) is True
        assert event.wait(0) is True


@pytest.mark.parametrize("timeout", [0, 0.001, -1])
def test_wait_returns_false_when_the_timeout_expires(timeout):
    assert Event().wait(timeout) is False


def test_wait_returns_true_when_set_while_waiting():
    event = Event()
    waiter = gevent.spawn(event.wait, timeout=50)
    gevent.sleep(0)
    event.set()
    assert waiter.get() is True


def test_wait_returns_true_even_when_cleared_before_the_waiter_ran():
    event = Event()
    waiters = [gevent.spawn(event.wait), gevent.spawn(event.wait, 50)]
    gevent.sleep(0)
    event.set()
    event.clear()
    gevent.joinall(waiters, timeout=20)
    assert [w.value for w in waiters] == [True, True]
    assert not event.is_set()


def test_set_wakes_every_waiter_in_the_order_they_waited():
    event = Event()
    woken = []

    def waiter(i):
        event.wait()
        woken.append(i)

    gs = [gevent.spawn(waiter, i) for i in range(50)]
    gevent.sleep(0)
    event.set()
    gevent.joinall(gs)
    assert woken == list(range(50))


def test_set_does_not_switch(never_switches):
    event = Event()
    waiter = gevent.spawn(event.wait)
    gevent.sleep(0)
    with never_switches():
        event.set()
        event.clear()
        event.set()
    waiter.join()


def test_can_be_used_again_after_clear():
    event = Event()
    for _ in range(3):
        waiter = gevent.spawn(event.wait)
        gevent.sleep(0)
        assert not waiter.ready()
        event.set()
        waiter.join()
        event.clear()


def test_set_before_wait_in_another_greenlet():
    event = Event()
    gevent.spawn(event.set)
    assert event.wait() is True


def test_a_waiter_whose_timeout_expired_is_not_woken_by_set():
    event = Event()
    assert event.wait(0.001) is False
    event.set()
    log = []
    gevent.sleep(0.005)
    log.append("slept its whole time")
    assert log == ["slept its whole time"]


def test_killed_waiter_does_not_disturb_the_others():
    event = Event()
    waiters = [gevent.spawn(event.wait) for _ in range(3)]
    gevent.sleep(0)
    waiters[1].kill()
    event.set()
    assert waiters[0].get() is True
    assert waiters[2].get() is True


def test_foreign_timeout_goes_through_wait():
    with pytest.raises(Timeout) as caught, Timeout(0.001) as outer:
        Event().wait(timeout=50)
    assert caught.value is outer


@pytest.mark.parametrize("timeout", ["x", object()])
def test_wait_with_a_timeout_that_is_no_number(timeout):
    with pytest.raises(TypeError):
        Event().wait(timeout)


def test_waiting_again_inside_the_wake_up():
    event = Event()
    second = Event()
    log = []

    def waiter():
        event.wait()
        log.append("first")
        second.wait()
        log.append("second")

    g = gevent.spawn(waiter)
    gevent.sleep(0)
    event.set()
    gevent.sleep(0)
    second.set()
    g.join()
    assert log == ["first", "second"]


def test_two_greenlets_hand_over_by_events():
    ping, pong = Event(), Event()
    log = []

    def server():
        for i in range(5):
            ping.wait()
            ping.clear()
            log.append(("ping", i))
            pong.set()

    g = gevent.spawn(server)
    for i in range(5):
        ping.set()
        pong.wait()
        pong.clear()
        log.append(("pong", i))
    g.join()
    assert log == [(name, i) for i in range(5) for name in ("ping", "pong")]


def test_weak_references():
    event = Event()
    assert weakref.ref(event)() is event
