"""Event: the link protocol, its text forms, native threads."""

import threading

import gevent
import pytest
from gevent.event import Event


class Boom(Exception):
    pass


def test_rawlink_is_called_with_the_event():
    event = Event()
    seen = []
    event.rawlink(seen.append)
    event.set()
    gevent.sleep(0)
    assert seen == [event]


def test_rawlink_on_a_set_event_is_called():
    event = Event()
    event.set()
    seen = []
    event.rawlink(seen.append)
    gevent.sleep(0)
    assert seen == [event]


def test_rawlink_is_called_once():
    event = Event()
    seen = []
    event.rawlink(seen.append)
    event.set()
    gevent.sleep(0)
    event.clear()
    event.set()
    gevent.sleep(0)
    assert seen == [event]


def test_unlink():
    event = Event()
    seen = []
    event.rawlink(seen.append)
    event.unlink(seen.append)
    event.unlink(seen.append)
    event.set()
    gevent.sleep(0)
    assert seen == []


@pytest.mark.parametrize("bad", [None, 5, "x"])
def test_rawlink_needs_a_callable(bad):
    with pytest.raises(TypeError):
        Event().rawlink(bad)


def test_links_run_in_order_and_a_failing_one_is_reported(capsys):
    event = Event()
    seen = []

    def bad(source):
        raise Boom("link")

    event.rawlink(lambda source: seen.append(1))
    event.rawlink(bad)
    event.rawlink(lambda source: seen.append(2))
    event.set()
    gevent.sleep(0)
    assert seen == [1, 2]
    assert "Boom: link" in capsys.readouterr().err


def test_linkcount():
    event = Event()
    assert event.linkcount() == 0
    event.rawlink(print)
    assert event.linkcount() == 1
    event.unlink(print)
    assert event.linkcount() == 0


def test_str():
    event = Event()
    assert str(event).endswith(f"Event at {hex(id(event))} clear _links[0]>")
    event.set()
    assert str(event).endswith(" set _links[0]>")


def test_set_from_a_native_thread_wakes_the_waiter():
    event = Event()
    thread = threading.Timer(0.01, event.set)
    thread.start()
    # Another greenlet keeps the loop from being empty while the thread works.
    assert event.wait(timeout=30) is True
    thread.join()


def test_late_waiters_run_after_those_that_blocked():
    event = Event()
    log = []

    def waiter(name):
        event.wait()
        log.append(name)

    gs = [gevent.spawn(waiter, "early")]
    gevent.sleep(0)
    event.set()
    gs.append(gevent.spawn(waiter, "late"))
    gevent.joinall(gs)
    assert log == ["early", "late"]


def test_subclass():
    class Mine(Event):
        pass

    event = Mine()
    event.set()
    assert event.wait() is True
    event.note = 1
    assert event.note == 1
