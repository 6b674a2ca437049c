"""Greenlet: its life, results, joining, killing, links and subclassing."""

import gc
import sys
import traceback
import weakref

import gevent
import pytest
from gevent import Greenlet, GreenletExit, Timeout
from gevent.event import Event


class Boom(Exception):
    pass


def fail(*args):
    raise Boom(*args)


@pytest.fixture
def parked():
    """A started greenlet that sleeps until killed."""
    g = gevent.spawn(gevent.sleep, 100)
    gevent.sleep(0)
    yield g
    g.kill()


def test_states_of_a_greenlet_that_succeeds():
    g = Greenlet(len, "abc")
    assert (g.ready(), g.successful(), g.dead, bool(g)) == (False, False, False, False)
    assert g.value is None
    assert g.exception is None
    g.start()
    assert (g.ready(), g.successful(), g.dead, bool(g)) == (False, False, False, True)
    g.join()
    assert (g.ready(), g.successful(), g.dead, bool(g)) == (True, True, True, False)
    assert g.value == 3
    assert g.exception is None


def test_states_of_a_greenlet_that_fails(capsys):
    g = gevent.spawn(fail, "why")
    g.join()
    assert (g.ready(), g.successful(), g.dead, bool(g)) == (True, False, True, False)
    assert g.value is None
    assert isinstance(g.exception, Boom)
    assert g.exception.args == ("why",)


def test_states_seen_from_inside():
    def function():
        g = gevent.getcurrent()
        return g.ready(), g.successful(), g.dead, bool(g), g.started

    assert gevent.spawn(function).get() == (False, False, False, True, True)


def test_started_is_true_from_start_to_end():
    g = Greenlet(gevent.sleep, 0)
    assert not g.started
    g.start()
    assert g.started
    g.join()
    assert not g.started


def test_get_returns_the_value_any_number_of_times():
    g = gevent.spawn(lambda: "value")
    assert g.get() == "value"
    assert g.get() == "value"
    assert g.get(block=False) == "value"
    assert g.get(timeout=0) == "value"


def test_get_raises_the_exception_any_number_of_times(capsys):
    g = gevent.spawn(fail, 1)
    for _ in range(2):
        with pytest.raises(Boom) as caught:
            g.get()
        assert caught.value is g.exception


def test_get_shows_where_the_greenlet_failed(capsys):
    g = gevent.spawn(fail)
    with pytest.raises(Boom) as caught:
        g.get()
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "fail" in names


def test_get_without_blocking_raises_timeout(parked, never_switches):
    with never_switches(), pytest.raises(Timeout):
        parked.get(block=False)


@pytest.mark.parametrize("timeout", [0, 0.01, -1])
def test_get_raises_timeout_and_leaves_the_greenlet_alone(parked, timeout):
    with pytest.raises(Timeout) as caught:
        parked.get(timeout=timeout)
    assert caught.value.seconds == timeout
    assert not parked.ready()


def test_get_by_many_waiters():
    g = gevent.spawn_later(0.01, lambda: "v")
    waiters = [gevent.spawn(g.get) for _ in range(10)]
    gevent.joinall(waiters)
    assert [w.value for w in waiters] == ["v"] * 10


def test_get_of_a_greenlet_never_started_times_out():
    g = Greenlet(len, "")
    with pytest.raises(Timeout):
        g.get(timeout=0.01)


def test_join_returns_none_and_does_not_raise_the_failure(capsys):
    assert gevent.spawn(fail).join() is None


def test_join_of_a_finished_greenlet_does_not_switch(never_switches):
    g = gevent.spawn(len, "")
    g.join()
    with never_switches():
        assert g.join() is None
        assert g.join(timeout=1) is None


@pytest.mark.parametrize("timeout", [0, 0.01, -1])
def test_join_returns_when_the_timeout_expires(parked, timeout):
    assert parked.join(timeout=timeout) is None
    assert not parked.ready()


def test_join_lets_a_foreign_timeout_through(parked):
    with pytest.raises(Timeout) as caught, Timeout(0.01) as outer:
        parked.join(timeout=50)
    assert caught.value is outer


@pytest.mark.parametrize("timeout", ["x", object()])
def test_waiting_with_a_timeout_that_is_no_number(parked, timeout):
    with pytest.raises(TypeError):
        parked.join(timeout)
    with pytest.raises(TypeError):
        parked.get(timeout=timeout)


def test_a_timed_out_waiter_is_not_woken_later():
    g = gevent.spawn_later(0.02, lambda: "late")
    with pytest.raises(Timeout):
        g.get(timeout=0.001)
    log = []
    gevent.sleep(0.05)
    log.append("slept")
    assert log == ["slept"]
    assert g.value == "late"


def test_start_twice_runs_once():
    ran = []
    g = Greenlet(ran.append, 1)
    g.start()
    g.start()
    g.start_later(0)
    g.join()
    gevent.sleep(0.005)
    assert ran == [1]


def test_start_after_the_end_does_nothing():
    ran = []
    g = gevent.spawn(ran.append, 1)
    g.join()
    g.start()
    gevent.sleep(0)
    assert ran == [1]
    assert g.ready()


def test_start_later_twice_runs_once():
    ran = []
    g = Greenlet(ran.append, 1)
    g.start_later(0.001)
    g.start_later(0.002)
    g.join()
    gevent.sleep(0.01)
    assert ran == [1]


def test_class_methods_spawn_instances_of_the_subclass():
    class Worker(Greenlet):
        pass

    for g in (Worker.spawn(len, "ab"), Worker.spawn_later(0.001, len, "ab")):
        assert type(g) is Worker
        assert g.get() == 2


def test_arguments_are_kept_until_the_greenlet_ends():
    def function(*args, **kwargs):
        gevent.sleep(0)

    g = gevent.spawn(function, 1, 2, key="word")
    assert g.args == (1, 2)
    assert g.kwargs == {"key": "word"}
    g.join()
    assert g.args == ()
    assert g.kwargs == {}


def test_arguments_are_released_when_the_greenlet_ends():
    class Payload:
        pass

    payload = Payload()
    ref = weakref.ref(payload)
    g = gevent.spawn(lambda p: None, payload)
    del payload
    g.join()
    gc.collect()
    assert ref() is None
    assert g.ready()


def test_subclass_overrides_run_method():
    class Adder(Greenlet):
        def __init__(self, a, b):
            Greenlet.__init__(self)
            self.a = a
            self.b = b

        def _run(self):
            gevent.sleep(0)
            return self.a + self.b

    g = Adder(2, 3)
    g.start()
    assert g.get() == 5


def test_subclass_run_method_gets_the_arguments():
    class Echo(Greenlet):
        def _run(self, *args, **kwargs):
            return args, kwargs

    g = Echo(None, 1, 2, x=3)
    g.start()
    assert g.get() == ((1, 2), {"x": 3})


def test_subclass_with_both_run_method_and_function_runs_the_function():
    class Both(Greenlet):
        def _run(self):
            return "method"

    g = Both(lambda: "function")
    g.start()
    assert g.get() == "function"


def test_greenlet_without_a_function_returns_none():
    g = Greenlet()
    g.start()
    assert g.get() is None


def test_constructor_refuses_what_is_not_callable():
    with pytest.raises(TypeError):
        Greenlet(5)


def test_instances_take_attributes_and_weak_references():
    g = Greenlet(len, "")
    g.anything = 1
    assert g.anything == 1
    assert weakref.ref(g)() is g


def test_repr_names_the_function_and_its_arguments():
    def function(a, b=None):
        gevent.sleep(0)

    g = Greenlet(function, 1, b="two")
    assert repr(g) == f"<Greenlet at {hex(id(g))}: function(1, b='two')>"
    assert str(g) == repr(g)


def test_repr_of_functions_without_arguments():
    assert repr(Greenlet(fail)).endswith(": fail>")
    assert repr(Greenlet(lambda: 1)).endswith(": <lambda>>")
    assert repr(Greenlet()).endswith(": _run>")


def test_repr_uses_the_name_of_the_subclass():
    class Special(Greenlet):
        pass

    assert repr(Special(fail)).startswith("<Special at 0x")


def test_kill_ends_the_greenlet_with_greenlet_exit_as_its_value(parked):
    assert parked.kill() is None
    assert parked.ready()
    assert parked.dead
    assert parked.successful()
    assert isinstance(parked.value, GreenletExit)
    assert isinstance(parked.get(), GreenletExit)
    assert parked.exception is None


def test_kill_says_nothing(parked, capsys):
    parked.kill()
    gevent.sleep(0)
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out == ""


def test_kill_with_another_exception_class(parked, capsys):
    parked.kill(Boom)
    assert not parked.successful()
    assert isinstance(parked.exception, Boom)
    with pytest.raises(Boom):
        parked.get()
    assert "failed with Boom" in capsys.readouterr().err


def test_kill_with_an_exception_instance(parked, capsys):
    error = Boom("reason")
    parked.kill(error)
    assert parked.exception is error


def test_kill_runs_finally_blocks():
    log = []

    def function():
        try:
            gevent.sleep(100)
        except GreenletExit:
            log.append("except")
            raise
        finally:
            log.append("finally")

    g = gevent.spawn(function)
    gevent.sleep(0)
    g.kill()
    assert log == ["except", "finally"]


def test_a_greenlet_may_return_a_value_when_killed():
    def function():
        try:
            gevent.sleep(100)
        except GreenletExit:
            return "cleaned up"

    g = gevent.spawn(function)
    gevent.sleep(0)
    g.kill()
    assert g.get() == "cleaned up"


def test_kill_waits_for_a_greenlet_that_takes_its_time():
    def function():
        try:
            gevent.sleep(100)
        finally:
            gevent.sleep(0.01)

    g = gevent.spawn(function)
    gevent.sleep(0)
    g.kill()
    assert g.dead


def test_kill_with_timeout_gives_up_quietly():
    release = Event()

    def stubborn():
        try:
            gevent.sleep(100)
        except GreenletExit:
            release.wait()
            return "in my own time"

    g = gevent.spawn(stubborn)
    gevent.sleep(0)
    assert g.kill(timeout=0.005) is None
    assert not g.ready()
    release.set()
    assert g.get() == "in my own time"


def test_kill_without_blocking_does_not_switch(parked, never_switches):
    with never_switches():
        parked.kill(block=False)
        assert not parked.ready()
    parked.join()
    assert isinstance(parked.value, GreenletExit)


def test_kill_before_start_prevents_running():
    ran = []
    g = Greenlet(ran.append, 1)
    g.kill()
    assert g.dead
    assert g.ready()
    assert isinstance(g.value, GreenletExit)
    g.start()
    gevent.sleep(0)
    assert ran == []


def test_kill_between_spawn_and_the_first_switch_prevents_running():
    ran = []
    g = gevent.spawn(ran.append, 1)
    g.kill()
    assert g.dead
    gevent.sleep(0)
    assert ran == []
    assert isinstance(g.get(), GreenletExit)


def test_kill_before_the_first_switch_with_an_error(capsys):
    g = gevent.spawn(len, "")
    g.kill(Boom)
    assert isinstance(g.exception, Boom)
    assert not g.successful()


def test_kill_before_the_first_switch_still_notifies_waiters():
    g = gevent.spawn(len, "")
    waiter = gevent.spawn(g.get)
    g.kill(block=False)
    assert isinstance(waiter.get(), GreenletExit)


def test_kill_of_a_finished_greenlet_keeps_its_value(never_switches):
    g = gevent.spawn(len, "abc")
    g.join()
    with never_switches():
        g.kill()
        g.kill(Boom)
    assert g.value == 3


def test_kill_twice(parked):
    parked.kill(block=False)
    parked.kill()
    assert isinstance(parked.value, GreenletExit)


def test_kill_itself():
    log = []

    def function():
        try:
            gevent.getcurrent().kill()
            log.append("not reached")
        finally:
            log.append("finally")

    g = gevent.spawn(function)
    g.join()
    assert log == ["finally"]
    assert isinstance(g.value, GreenletExit)


def test_kill_itself_without_blocking_takes_effect_at_the_next_wait():
    log = []

    def function():
        gevent.getcurrent().kill(block=False)
        log.append("still here")
        gevent.sleep(0)
        log.append("not reached")

    g = gevent.spawn(function)
    g.join()
    assert log == ["still here"]
    assert isinstance(g.value, GreenletExit)


def test_greenlet_exit_raised_or_returned_is_success(capsys):
    def raises():
        raise GreenletExit("bye")

    g = gevent.spawn(raises)
    g.join()
    assert g.successful()
    assert isinstance(g.value, GreenletExit)
    assert g.value.args == ("bye",)
    assert g.exception is None
    assert capsys.readouterr().err == ""


def test_greenlet_exit_is_no_ordinary_exception():
    assert issubclass(GreenletExit, BaseException)
    assert not issubclass(GreenletExit, Exception)


def test_link_is_called_with_the_greenlet_in_another_greenlet():
    seen = []

    def function():
        return "value"

    def linked(source):
        seen.append((source, gevent.getcurrent()))

    g = gevent.spawn(function)
    g.link(linked)
    g.join()
    gevent.sleep(0)
    [(source, current)] = seen
    assert source is g
    assert current not in (g, gevent.get_hub(), None)


def test_link_may_block():
    done = []

    def linked(source):
        gevent.sleep(0.001)
        done.append(source.value)

    g = gevent.spawn(lambda: 5)
    g.link(linked)
    g.join()
    gevent.sleep(0.02)
    assert done == [5]


def test_link_after_the_end_is_called():
    seen = []
    g = gevent.spawn(lambda: 5)
    g.join()
    g.link(lambda source: seen.append(source.value))
    assert seen == []
    gevent.sleep(0)
    gevent.sleep(0)
    assert seen == [5]


def test_links_are_called_in_the_order_linked():
    seen = []
    g = gevent.spawn(lambda: None)
    for i in range(5):
        g.link(lambda source, i=i: seen.append(i))
    g.join()
    gevent.sleep(0)
    assert seen == list(range(5))


def test_link_is_called_for_success_failure_and_kill(capsys):
    seen = []
    gs = [gevent.spawn(len, ""), gevent.spawn(fail), gevent.spawn(gevent.sleep, 100)]
    for g in gs:
        g.link(seen.append)
    gs[2].kill()
    gevent.joinall(gs)
    gevent.sleep(0)
    assert set(seen) == set(gs)
    assert len(seen) == 3


def test_unlink_prevents_the_call():
    seen = []
    g = gevent.spawn(lambda: 5)
    g.link(seen.append)
    g.unlink(seen.append)
    g.join()
    gevent.sleep(0)
    assert seen == []


def test_unlink_of_something_never_linked_does_nothing():
    Greenlet(len, "").unlink(print)


@pytest.mark.parametrize("bad", [None, 5, "name"])
def test_link_of_something_not_callable(bad):
    with pytest.raises(TypeError):
        Greenlet(len, "").link(bad)


def test_a_link_that_raises_is_reported_and_the_others_are_called(capsys):
    seen = []

    def bad_link(source):
        raise Boom("in a link")

    g = gevent.spawn(lambda: 5)
    g.link(bad_link)
    g.link(seen.append)
    g.join()
    gevent.sleep(0)
    assert seen == [g]
    assert "Boom: in a link" in capsys.readouterr().err


def test_exception_state_is_per_greenlet():
    def function():
        before = sys.exc_info()
        try:
            raise ValueError("inner")
        except ValueError:
            gevent.sleep(0)
            during = sys.exc_info()[0]
        return before, during

    try:
        raise KeyError("outer")
    except KeyError:
        g = gevent.spawn(function)
        g.join()
        assert sys.exc_info()[0] is KeyError
    assert g.value == ((None, None, None), ValueError)


def test_deep_recursion_in_a_greenlet_is_a_recursion_error(capsys):
    def recurse():
        return recurse() + 1

    g = gevent.spawn(recurse)
    g.join()
    assert isinstance(g.exception, RecursionError)


def test_a_generator_crosses_greenlets():
    def numbers():
        for i in range(3):
            gevent.sleep(0)
            yield i

    source = numbers()
    first = gevent.spawn(next, source).get()
    second = gevent.spawn(next, source).get()
    assert [first, second, *source] == [0, 1, 2]


def test_an_abandoned_greenlet_is_collected():
    g = Greenlet(gevent.sleep, 100)
    ref = weakref.ref(g)
    del g
    gc.collect()
    assert ref() is None


def test_a_finished_greenlet_is_collected():
    g = gevent.spawn(len, "")
    g.join()
    ref = weakref.ref(g)
    del g
    gevent.sleep(0)
    gc.collect()
    assert ref() is None


def test_methods_of_the_class_are_methods_of_subclasses_under_other_names():
    class Job(Greenlet):
        cancel = Greenlet.kill
        result = Greenlet.get

    job = Job.spawn(gevent.sleep, 10)
    job.cancel(timeout=5)
    assert isinstance(job.result(timeout=5), GreenletExit)
    with pytest.raises(TypeError):
        Job.cancel(object())
    with pytest.raises(TypeError):
        Job.cancel()
    calls = []
    job.cancel(ValueError, True, timeout=5)
    job.link(*[calls.append])
    gevent.sleep(0.01)
    assert calls == [job]
