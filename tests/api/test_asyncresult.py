"""AsyncResult."""

import gevent
import pytest
from gevent import Timeout
from gevent.event import AsyncResult


class Boom(Exception):
    pass


def fail():
    raise Boom("failed")


def test_states():
    result = AsyncResult()
    assert not result.ready()
    assert not result.successful()
    assert result.value is None
    assert result.exception is None
    result.set("v")
    assert result.ready()
    assert result.successful()
    assert result.value == "v"
    assert result.exception is None


def test_set_without_a_value_is_none_and_ready():
    result = AsyncResult()
    result.set()
    assert result.ready()
    assert result.successful()
    assert result.get(block=False) is None


def test_states_after_set_exception():
    error = Boom()
    result = AsyncResult()
    result.set_exception(error)
    assert result.ready()
    assert not result.successful()
    assert result.value is None
    assert result.exception is error


def test_get_when_ready_does_not_switch(never_switches):
    result = AsyncResult()
    result.set(5)
    with never_switches():
        assert result.get() == 5
        assert result.get(timeout=1) == 5
        assert result.get_nowait() == 5


def test_get_raises_the_exception():
    error = Boom()
    result = AsyncResult()
    result.set_exception(error)
    for _ in range(2):
        with pytest.raises(Boom) as caught:
            result.get()
        assert caught.value is error


def test_get_nowait_raises_timeout(never_switches):
    result = AsyncResult()
    with never_switches():
        with pytest.raises(Timeout):
            result.get_nowait()
        with pytest.raises(Timeout):
            result.get(block=False)


@pytest.mark.parametrize("timeout", [0, 0.001, -1])
def test_get_raises_timeout_and_can_be_tried_again(timeout):
    result = AsyncResult()
    with pytest.raises(Timeout):
        result.get(timeout=timeout)
    result.set(1)
    assert result.get(timeout=timeout) == 1


def test_get_waits_for_the_value():
    result = AsyncResult()
    gevent.spawn_later(0.001, result.set, "later")
    assert result.get() == "later"


def test_get_waits_for_the_exception():
    result = AsyncResult()
    gevent.spawn_later(0.001, result.set_exception, Boom("later"))
    with pytest.raises(Boom, match="later"):
        result.get()


def test_every_waiter_gets_the_value_in_order():
    result = AsyncResult()
    woken = []

    def waiter(i):
        woken.append((i, result.get()))

    gs = [gevent.spawn(waiter, i) for i in range(10)]
    gevent.sleep(0)
    result.set("v")
    gevent.joinall(gs)
    assert woken == [(i, "v") for i in range(10)]


def test_wait_returns_the_value_or_none():
    result = AsyncResult()
    assert result.wait(timeout=0.001) is None
    assert result.wait(0) is None
    gevent.spawn(result.set, 7)
    assert result.wait() == 7
    assert result.wait() == 7


def test_wait_returns_none_for_an_exception():
    result = AsyncResult()
    gevent.spawn(result.set_exception, Boom())
    assert result.wait() is None
    assert isinstance(result.exception, Boom)


def test_foreign_timeout_goes_through():
    for method in (AsyncResult().get, AsyncResult().wait):
        with pytest.raises(Timeout) as caught, Timeout(0.001) as outer:
            method(timeout=50)
        assert caught.value is outer


@pytest.mark.parametrize("timeout", ["x", object()])
def test_a_timeout_that_is_no_number(timeout):
    with pytest.raises(TypeError):
        AsyncResult().get(timeout=timeout)
    with pytest.raises(TypeError):
        AsyncResult().wait(timeout=timeout)


def test_set_does_not_switch(never_switches):
    result = AsyncResult()
    waiter = gevent.spawn(result.get)
    gevent.sleep(0)
    with never_switches():
        result.set(1)
    assert waiter.get() == 1


def test_set_again_replaces_the_value():
    result = AsyncResult()
    result.set(1)
    result.set(2)
    assert result.get() == 2


def test_as_a_link_target_takes_the_value():
    result = AsyncResult()
    gevent.spawn(lambda: 5).link(result)
    assert result.get() == 5


def test_as_a_link_target_takes_the_exception(capsys):
    result = AsyncResult()
    g = gevent.spawn(fail)
    g.link(result)
    with pytest.raises(Boom) as caught:
        result.get()
    assert caught.value is g.exception


def test_as_a_link_target_takes_greenlet_exit_as_a_value():
    result = AsyncResult()
    g = gevent.spawn(gevent.sleep, 100)
    g.link(result)
    g.kill(block=False)
    assert isinstance(result.get(), gevent.GreenletExit)


def test_killed_waiter_does_not_disturb_the_others():
    result = AsyncResult()
    waiters = [gevent.spawn(result.get) for _ in range(3)]
    gevent.sleep(0)
    waiters[0].kill()
    result.set(3)
    assert [w.get() for w in waiters[1:]] == [3, 3]


def test_value_may_be_an_exception_object():
    error = Boom()
    result = AsyncResult()
    result.set(error)
    assert result.get() is error
    assert result.exception is None
