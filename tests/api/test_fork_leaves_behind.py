"""A forked child goes on with the greenlet that forked; the parent's other greenlets do not run."""

from __future__ import annotations

import os
from typing import Any

import pytest

ours_only = pytest.mark.skipif(
    os.environ.get("GREENLOOP_TEST_PEER") == "1", reason="gevent runs all greenlets in both"
)
pytestmark = ours_only

COMMON = """
        import os, sys
        import gevent
        from gevent.event import Event
        from gevent.lock import Semaphore

        parent = os.getpid()

        def who():
            return "parent" if os.getpid() == parent else "child"

        def fork(child):
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    child()
                    status = 0
                except BaseException:
                    sys.excepthook(*sys.exc_info())
                finally:
                    sys.stdout.flush()
                    os._exit(status)
            assert os.waitpid(pid, 0)[1] == 0
"""


def test_greenlets_run_in_the_parent_only_whatever_they_wait_for(run_script: Any) -> None:
    script = """
        from gevent.socket import socketpair

        ran = []
        here, there = socketpair()
        event, gate = Event(), Semaphore(0)

        def note(name, wait=None, *args):
            try:
                if wait is not None:
                    wait(*args)
                ran.append(name)
            finally:
                ran.append(f"end of {name}")

        greenlets = [
            gevent.spawn(note, "timer", gevent.sleep, 0.01),
            gevent.spawn(note, "descriptor", here.recv, 1),
            gevent.spawn(note, "event", event.wait),
            gevent.spawn(note, "permit", gate.acquire),
            gevent.spawn(note, "yielding", gevent.sleep, 0),
        ]
        gevent.sleep(0)
        greenlets += [gevent.spawn(note, "ready"), gevent.spawn_later(0.01, note, "later")]

        def child():
            there.send(b"x")
            event.set()
            gate.release()
            assert gate.acquire(timeout=30), "the permit went to a greenlet of the parent"
            gevent.sleep(0.05)
            new = gevent.spawn(gevent.sleep, 0.01)
            new.join()
            assert new.successful()
            greenlets.clear()
            assert ran == [], ran

        fork(child)
        event.set()
        gate.release()
        gevent.joinall(greenlets, raise_error=True)
        print(len(ran))
        """
    assert run_script(COMMON + script).check_quiet() == "14\n"


def test_a_child_that_ends_normally_does_not_end_what_it_left_behind(run_script: Any) -> None:
    script = """
        def serve():
            try:
                gevent.sleep(60)
            finally:
                print("end of serve in", who(), flush=True)

        serving = gevent.spawn(serve)
        gevent.sleep(0)
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
            serving.kill()
        else:
            del serving
            gevent.sleep(0.001)
        print("end of", who(), flush=True)
        """
    out = run_script(COMMON + script).check_quiet()
    assert out == "end of child\nend of serve in parent\nend of parent\n"


def test_timeouts_of_the_greenlet_that_forks_stay_and_others_do_not(run_script: Any) -> None:
    script = """
        def child():
            try:
                gevent.sleep(60)
            except gevent.Timeout as expired:
                assert expired is own
            gevent.sleep(0.02)

        def other():
            with gevent.Timeout(0.001):
                gevent.sleep(60)

        other = gevent.spawn(other)
        gevent.sleep(0)
        with gevent.Timeout(0.01) as own:
            fork(child)
            own.cancel()
        other.join()
        print(type(other.exception).__name__)
        """
    assert run_script(COMMON + script).check().endswith("Timeout\n")


def test_a_main_greenlet_that_waits_for_the_one_that_forks_goes_on_in_both(
    run_script: Any,
) -> None:
    script = """
        def work():
            pid = os.fork()
            if pid:
                assert os.waitpid(pid, 0)[1] == 0
            return who()

        print(gevent.spawn(work).get(), flush=True)
        """
    assert run_script(COMMON + script).check_quiet() == "child\nparent\n"


def test_one_that_was_left_behind_can_be_killed(run_script: Any) -> None:
    script = """
        def wait():
            try:
                gevent.sleep(60)
            finally:
                ended.append(who())

        ended = []
        waiting = gevent.spawn(wait)
        gevent.sleep(0)

        def child():
            waiting.kill()
            assert ended == ["child"]

        fork(child)
        waiting.kill()
        print(ended)
        """
    assert run_script(COMMON + script).check_quiet() == "['parent']\n"
