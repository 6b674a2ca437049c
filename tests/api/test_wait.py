"""joinall, killall, wait and iwait."""

import gevent
import pytest
from gevent import GreenletExit, Timeout
from gevent.event import AsyncResult, Event


class Boom(Exception):
    pass


def fail():
    raise Boom("joined")


def later(delay, value=None):
    gevent.sleep(delay)
    return value


def test_joinall_returns_the_finished_greenlets():
    gs = [gevent.spawn(later, 0, i) for i in range(3)]
    done = gevent.joinall(gs)
    assert done == gs
    assert all(g.ready() for g in gs)


def test_joinall_returns_them_in_the_order_they_finished():
    slow = gevent.spawn(later, 0.05)
    fast = gevent.spawn(later, 0.001)
    assert gevent.joinall([slow, fast]) == [fast, slow]


def test_joinall_of_nothing():
    assert gevent.joinall([]) == []
    assert gevent.joinall([], timeout=1, raise_error=True) == []


@pytest.mark.parametrize("timeout", [0, 0.01, -1])
def test_joinall_with_timeout_returns_those_finished_in_time(timeout):
    slow = gevent.spawn(later, 10)
    fast = gevent.spawn(len, "")
    fast.join()
    done = gevent.joinall([slow, fast], timeout=timeout)
    assert slow not in done
    assert not slow.ready()
    slow.kill()


def test_joinall_with_timeout_includes_what_finished():
    slow = gevent.spawn(later, 10)
    fast = gevent.spawn(later, 0)
    assert gevent.joinall([slow, fast], timeout=0.02) == [fast]
    slow.kill()


def test_joinall_does_not_raise_failures_unless_asked(capsys):
    g = gevent.spawn(fail)
    assert gevent.joinall([g]) == [g]
    with pytest.raises(Boom) as caught:
        gevent.joinall([g], raise_error=True)
    assert caught.value is g.exception


def test_joinall_raises_the_first_failure_without_waiting_for_the_rest(capsys):
    slow = gevent.spawn(later, 100)
    with pytest.raises(Boom):
        gevent.joinall([slow, gevent.spawn(fail)], raise_error=True)
    assert not slow.ready()
    slow.kill()


def test_joinall_raise_error_returns_when_nothing_failed():
    gs = [gevent.spawn(later, 0) for _ in range(3)]
    assert gevent.joinall(gs, raise_error=True) == gs


def test_joinall_with_count():
    gs = [gevent.spawn(later, 0.001), gevent.spawn(later, 100), gevent.spawn(later, 100)]
    assert gevent.joinall(gs, count=1) == gs[:1]
    assert gevent.joinall(gs, count=0) == []
    gevent.killall(gs)


def test_joinall_of_finished_greenlets():
    gs = [gevent.spawn(later, 0) for _ in range(3)]
    gevent.joinall(gs)
    again = gevent.joinall(gs)
    assert len(again) == 3
    assert set(again) == set(gs)


def test_joinall_of_the_same_greenlet_twice():
    g = gevent.spawn(later, 0)
    assert gevent.joinall([g, g]) == [g, g]


def test_joinall_of_objects_that_cannot_be_waited_for():
    with pytest.raises(AttributeError):
        gevent.joinall([1])


def test_joinall_with_a_timeout_that_is_no_number():
    g = gevent.spawn(later, 0)
    with pytest.raises(TypeError):
        gevent.joinall([g], timeout="x")
    g.join()


def test_joinall_lets_a_foreign_timeout_through():
    g = gevent.spawn(later, 100)
    with pytest.raises(Timeout) as caught, Timeout(0.01) as outer:
        gevent.joinall([g], timeout=50)
    assert caught.value is outer
    g.kill()


def test_killall_kills_and_waits():
    gs = [gevent.spawn(later, 100) for _ in range(5)]
    gevent.sleep(0)
    assert gevent.killall(gs) is None
    assert all(g.dead for g in gs)
    assert all(isinstance(g.value, GreenletExit) for g in gs)


def test_killall_of_greenlets_not_yet_run():
    ran = []
    gs = [gevent.spawn(ran.append, i) for i in range(3)]
    gevent.killall(gs)
    gevent.sleep(0)
    assert ran == []
    assert all(g.dead for g in gs)


def test_killall_with_an_exception(capsys):
    gs = [gevent.spawn(later, 100) for _ in range(2)]
    gevent.sleep(0)
    gevent.killall(gs, Boom)
    assert all(isinstance(g.exception, Boom) for g in gs)


def test_killall_without_blocking_does_not_switch(never_switches):
    gs = [gevent.spawn(later, 100) for _ in range(3)]
    gevent.sleep(0)
    with never_switches():
        gevent.killall(gs, block=False)
        assert not any(g.dead for g in gs)
    gevent.joinall(gs)
    assert all(g.dead for g in gs)


def test_killall_waits_for_those_that_take_their_time():
    def stubborn():
        try:
            gevent.sleep(100)
        except GreenletExit:
            gevent.sleep(0.01)
            return "done"

    gs = [gevent.spawn(stubborn) for _ in range(3)]
    gevent.sleep(0)
    gevent.killall(gs)
    assert [g.value for g in gs] == ["done"] * 3


def test_killall_with_timeout_raises_timeout():
    release = Event()

    def stubborn():
        try:
            gevent.sleep(100)
        except GreenletExit:
            release.wait()

    g = gevent.spawn(stubborn)
    gevent.sleep(0)
    with pytest.raises(Timeout):
        gevent.killall([g], timeout=0.001)
    assert not g.dead
    release.set()
    g.join()
    assert g.dead


def test_killall_of_nothing_finished_ones_and_iterators():
    assert gevent.killall([]) is None
    done = gevent.spawn(len, "")
    done.join()
    assert gevent.killall([done]) is None
    assert done.value == 0
    gs = [gevent.spawn(later, 100) for _ in range(3)]
    gevent.killall(iter(gs))
    assert all(g.dead for g in gs)


def test_killall_of_raw_greenlets():
    gs = [gevent.spawn_raw(gevent.sleep, 100) for _ in range(3)]
    gevent.sleep(0)
    gevent.killall(gs)
    assert all(g.dead for g in gs)


def test_killall_from_inside_one_of_them_without_blocking():
    gs = []

    def function():
        gevent.killall(gs, block=False)
        gevent.sleep(100)

    gs.extend(
        gevent.spawn(function if i == 1 else later, *(() if i == 1 else (100,))) for i in range(3)
    )
    gevent.joinall(gs)
    assert all(isinstance(g.value, GreenletExit) for g in gs)


def test_wait_returns_ready_objects_of_every_kind():
    event = Event()
    result = AsyncResult()
    g = gevent.spawn(later, 0)
    gevent.spawn(event.set)
    gevent.spawn(result.set, 1)
    assert set(gevent.wait([event, result, g])) == {event, result, g}


def test_wait_with_count_and_timeout():
    never = Event()
    soon = Event()
    gevent.spawn(soon.set)
    assert gevent.wait([never, soon], count=1) == [soon]
    assert gevent.wait([never, soon], timeout=0.01) == [soon]
    assert gevent.wait([never], timeout=0) == []


def test_wait_on_an_event_leaves_no_link_behind():
    event = Event()
    assert gevent.wait([event], timeout=0.001) == []
    event.set()
    gevent.sleep(0)
    assert gevent.wait([event]) == [event]


def test_iwait_yields_objects_as_they_become_ready():
    events = [Event() for _ in range(3)]

    def setter():
        for i in (2, 0, 1):
            gevent.sleep(0.001)
            events[i].set()

    gevent.spawn(setter)
    assert list(gevent.iwait(events)) == [events[2], events[0], events[1]]


def test_iwait_yields_before_the_others_are_ready():
    never = Event()
    g = gevent.spawn(later, 0)
    for ready in gevent.iwait([never, g]):
        assert ready is g
        break
    assert not never.is_set()


def test_iwait_count_larger_than_the_objects():
    gs = [gevent.spawn(later, 0) for _ in range(2)]
    assert list(gevent.iwait(gs, count=5)) == gs


def test_iwait_timeout_ends_the_iteration():
    assert list(gevent.iwait([Event()], timeout=0.001)) == []


def test_iwait_of_nothing():
    assert list(gevent.iwait([])) == []


def test_wait_for_objects_already_ready():
    event = Event()
    event.set()
    result = AsyncResult()
    result.set(None)
    assert gevent.wait([event, result], timeout=1) == [event, result]


def test_wait_without_objects_waits_for_everything(run_script):
    result = run_script(
        """
        import gevent

        ran = []
        gevent.spawn(ran.append, 1)
        gevent.spawn_later(0.01, ran.append, 2)
        print(gevent.wait())
        print(ran)
        """
    )
    assert result.stdout == "True\n[1, 2]\n"
    assert result.returncode == 0


def test_wait_without_objects_times_out(run_script):
    result = run_script(
        """
        import gevent

        gevent.spawn_later(100, print, "never")
        print(bool(gevent.wait(timeout=0.01)))
        """
    )
    assert result.stdout == "False\n"
