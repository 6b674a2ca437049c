"""The method `switch_out` of a class of greenlets: called when one leaves to wait."""

import gevent
import greenlet as raw
import pytest
from gevent import Greenlet, Timeout, get_hub
from gevent.event import Event
from gevent.exceptions import BlockingSwitchOutError
from gevent.lock import Semaphore
from gevent.queue import Queue


class Told(Greenlet):
    """Counts how often it leaves."""

    count = 0

    def switch_out(self):
        assert gevent.getcurrent() is self
        self.count += 1


def test_every_wait_is_told():
    event, queue, semaphore = Event(), Queue(), Semaphore(0)
    job = Event()
    waits = [
        (lambda: gevent.sleep(0), int),
        (lambda: gevent.sleep(0.001), int),
        (event.wait, event.set),
        (queue.get, lambda: queue.put(1)),
        (semaphore.acquire, semaphore.release),
        (gevent.spawn(job.wait).join, job.set),
    ]
    for number, (wait, end) in enumerate(waits):
        greenlet = Told.spawn(wait)
        gevent.sleep(0)
        assert greenlet.count == 1, number
        end()
        greenlet.join()
        assert greenlet.count == 1, number


def test_what_does_not_wait_is_not_told():
    queue = Queue()
    queue.put(1)
    greenlet = Told.spawn(queue.get)
    assert greenlet.get() == 1
    assert greenlet.count == 0


def test_raw_greenlets_are_told_too():
    seen = []

    class RawTold(raw.greenlet):
        def switch_out(self):
            seen.append(self)

    greenlet = RawTold(lambda: gevent.sleep(0), get_hub())
    get_hub().loop.run_callback(greenlet.switch)
    gevent.sleep(0)
    gevent.sleep(0)
    assert seen == [greenlet]
    assert greenlet.dead


def test_what_it_raises_ends_the_wait():
    class Refusing(Greenlet):
        def switch_out(self):
            raise ValueError("stays")

    queue, semaphore = Queue(), Semaphore(0)

    def run():
        for wait in (queue.get, semaphore.acquire, lambda: gevent.sleep(1)):
            with pytest.raises(ValueError, match="stays"):
                wait()
        return "done"

    assert Refusing.spawn(run).get() == "done"
    # It waits no more.
    queue.put("item")
    semaphore.release()
    assert queue.get_nowait() == "item"
    assert semaphore.acquire(blocking=False)


def test_it_may_end_the_wait_that_it_is_told_of():
    event = Event()

    class Setting(Greenlet):
        def switch_out(self):
            event.set()

    with Timeout(30):
        assert Setting.spawn(event.wait).get() is True


def test_the_hub_refuses():
    with pytest.raises(BlockingSwitchOutError):
        get_hub().switch_out()
