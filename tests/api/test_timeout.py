"""Timeout: when it is raised, where, and who may catch it."""

import time

import gevent
import pytest
from gevent import Timeout


class Boom(Exception):
    pass


def test_raises_itself_when_the_time_is_up():
    began = time.monotonic()
    with pytest.raises(Timeout) as caught, Timeout(0.02) as timeout:
        gevent.sleep(10)
    assert caught.value is timeout
    assert time.monotonic() - began >= 0.019


def test_does_nothing_when_the_body_is_faster():
    with Timeout(0.01) as timeout:
        pass
    assert not timeout.pending
    gevent.sleep(0.02)
    with Timeout(100):
        gevent.sleep(0)


def test_is_a_base_exception_that_handlers_for_exception_do_not_catch():
    assert issubclass(Timeout, BaseException)
    assert not issubclass(Timeout, Exception)
    with pytest.raises(Timeout), Timeout(0.001):
        try:
            gevent.sleep(10)
        except Exception:
            pytest.fail("caught by except Exception")


def test_false_silences_the_timeout():
    reached = []
    with Timeout(0.001, False):
        gevent.sleep(10)
        reached.append("body")
    assert reached == []


def test_false_does_not_silence_a_foreign_timeout():
    with pytest.raises(Timeout) as caught, Timeout(0.001) as outer, Timeout(100, False):
        gevent.sleep(10)
    assert caught.value is outer


def test_false_does_not_silence_other_exceptions():
    with pytest.raises(Boom), Timeout(100, False):
        raise Boom


@pytest.mark.parametrize("exception", [Boom, Boom("instance")])
def test_raises_the_exception_it_was_given(exception):
    with pytest.raises(Boom) as caught, Timeout(0.001, exception):
        gevent.sleep(10)
    if not isinstance(exception, type):
        assert caught.value is exception


def test_none_never_expires():
    with Timeout(None) as timeout:
        assert not timeout.pending
        gevent.sleep(0.001)
    with Timeout() as timeout:
        assert timeout.seconds is None
        gevent.sleep(0.001)


@pytest.mark.parametrize("seconds", [0, 0.0])
def test_zero_expires_at_the_first_wait(seconds):
    reached = []
    with pytest.raises(Timeout), Timeout(seconds):
        reached.append("before the wait")
        gevent.sleep(10)
    assert reached == ["before the wait"]


def test_inner_expires_first():
    with Timeout(100) as outer:
        with pytest.raises(Timeout) as caught, Timeout(0.001) as inner:
            gevent.sleep(10)
        assert caught.value is inner
        assert outer.pending


def test_outer_expires_first():
    with pytest.raises(Timeout) as caught, Timeout(0.001) as outer:
        try:
            with Timeout(100) as inner:
                gevent.sleep(10)
        finally:
            assert not inner.pending
    assert caught.value is outer


def test_belongs_to_the_greenlet_that_started_it():
    def victim():
        with Timeout(0.01, False):
            gevent.sleep(10)
            return "not reached"
        return "timed out"

    def bystander():
        gevent.sleep(0.05)
        return "undisturbed"

    gs = [gevent.spawn(bystander), gevent.spawn(victim)]
    gevent.joinall(gs)
    assert [g.value for g in gs] == ["undisturbed", "timed out"]


def test_is_raised_in_the_greenlet_not_while_it_runs():
    with pytest.raises(Timeout), Timeout(0.001):
        began = time.monotonic()
        while time.monotonic() - began < 0.01:
            pass
        spun = True
        gevent.sleep(1)
    assert spun


def test_start_and_close_by_hand():
    timeout = Timeout(100)
    assert not timeout.pending
    timeout.start()
    assert timeout.pending
    timeout.close()
    assert not timeout.pending


def test_cancel_prevents_the_timeout():
    timeout = Timeout(0.005)
    timeout.start()
    timeout.cancel()
    gevent.sleep(0.02)
    assert not timeout.pending
    timeout.close()


def test_cancel_and_close_any_number_of_times():
    timeout = Timeout(100)
    timeout.cancel()
    timeout.start()
    timeout.cancel()
    timeout.cancel()
    timeout.close()
    timeout.close()
    timeout.cancel()


def test_can_be_started_again_after_cancel():
    timeout = Timeout(0.005)
    timeout.start()
    timeout.cancel()
    timeout.start()
    with pytest.raises(Timeout) as caught:
        gevent.sleep(10)
    assert caught.value is timeout
    timeout.close()


def test_start_while_pending_is_an_error():
    timeout = Timeout(100)
    timeout.start()
    with pytest.raises(AssertionError):
        timeout.start()
    timeout.close()


def test_with_closes_the_timeout_when_the_body_raises():
    with pytest.raises(Boom), Timeout(0.005) as timeout:
        raise Boom
    assert not timeout.pending
    gevent.sleep(0.01)


@pytest.mark.parametrize("seconds", ["x", object()])
def test_seconds_that_are_no_number(seconds):
    with pytest.raises(TypeError), Timeout(seconds):
        gevent.sleep(1)


def test_attributes():
    timeout = Timeout(5, Boom)
    assert timeout.seconds == 5
    assert timeout.exception is Boom


def test_str_says_how_long():
    assert str(Timeout(1)) == "1 second"
    assert str(Timeout(2)) == "2 seconds"
    assert str(Timeout(0.5)) == "0.5 seconds"
    assert str(Timeout(None)) == ""


def test_many_timeouts_at_once():
    def function(seconds):
        with Timeout(seconds, False):
            gevent.sleep(100)
        return seconds

    seconds = [0.001 * (i % 7) for i in range(200)]
    gs = [gevent.spawn(function, s) for s in seconds]
    gevent.joinall(gs)
    assert [g.value for g in gs] == seconds


def test_expires_in_the_order_of_the_deadlines():
    log = []

    def function(seconds):
        with Timeout(seconds, False):
            gevent.sleep(100)
        log.append(seconds)

    gevent.joinall([gevent.spawn(function, s) for s in (0.06, 0.02, 0.04)])
    assert log == [0.02, 0.04, 0.06]


def test_a_closed_timeout_of_a_finished_greenlet_disturbs_nobody(capsys):
    def function():
        Timeout(0.005).start()

    g = gevent.spawn(function)
    g.join()
    gevent.sleep(0.02)
    assert gevent.spawn(len, "").get() == 0
