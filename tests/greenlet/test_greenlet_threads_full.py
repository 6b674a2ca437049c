"""Greenlets that outlive their thread, or are dropped by another one."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from greenlet import GreenletExit, error, getcurrent, greenlet
from greenlet_support import in_thread, park, parked


class Token:
    pass


def settle() -> None:
    """Give the implementation its occasions to clean up after ended threads."""
    for _ in range(3):
        gc.collect()
        greenlet(lambda: None).switch()


def test_parked_greenlet_of_an_ended_thread() -> None:
    g = in_thread(parked)
    settle()
    with pytest.raises(error, match=r"different thread .*exited"):
        g.switch()
    with pytest.raises(error, match=r"different thread .*exited"):
        g.throw()
    assert g.dead
    assert not g
    assert g.gr_frame is None
    assert "dead" in repr(g)


def test_unstarted_greenlet_of_an_ended_thread() -> None:
    g = in_thread(lambda: greenlet(lambda: None))
    settle()
    with pytest.raises(error, match=r"different thread .*exited"):
        g.switch()


def test_unstarted_greenlet_of_an_ended_thread_can_be_adopted() -> None:
    g = in_thread(lambda: greenlet(lambda: "adopted"))
    settle()
    g.parent = getcurrent()
    assert g.switch() == "adopted"


def test_main_greenlet_of_an_ended_thread() -> None:
    main = in_thread(getcurrent)
    settle()
    assert main.dead
    assert not main
    assert main.parent is None
    with pytest.raises(error, match=r"different thread .*exited"):
        main.switch()


def test_finished_greenlet_of_an_ended_thread() -> None:
    def body() -> greenlet:
        g = greenlet(lambda: None)
        g.switch()
        return g

    g = in_thread(body)
    settle()
    assert g.dead
    with pytest.raises(error, match=r"different thread .*exited"):
        g.switch()


def test_main_greenlet_is_freed_after_its_thread() -> None:
    ref = in_thread(lambda: weakref.ref(getcurrent()))
    settle()
    assert ref() is None


def test_thread_that_ends_with_parked_greenlets_frees_their_locals() -> None:
    refs = []

    def run(token: Token) -> None:
        park()

    def body() -> None:
        local.greenlets = []
        for _ in range(10):
            token = Token()
            refs.append(weakref.ref(token))
            g = greenlet(run)
            g.switch(token)
            local.greenlets.append(g)

    local = threading.local()
    in_thread(body)
    settle()
    assert len(refs) == 10
    assert [ref() for ref in refs] == [None] * 10


def test_dropped_in_its_own_thread_gets_exit() -> None:
    log = []

    def run() -> None:
        try:
            park()
        except GreenletExit:
            log.append(threading.get_ident())
            raise

    def body() -> int:
        g = greenlet(run)
        g.switch()
        del g
        return threading.get_ident()

    assert [in_thread(body)] == log


def test_dropped_by_another_thread_dies_in_its_own() -> None:
    """Exit can only be thrown where the greenlet can run: its thread does so at its next switch."""
    log: list[Any] = []
    box: list[greenlet] = []
    ready, dropped = threading.Event(), threading.Event()

    def run() -> None:
        try:
            park()
        except GreenletExit:
            log.append(threading.get_ident())
            raise

    def body() -> None:
        box.append(greenlet(run))
        box[0].switch()
        ready.set()
        dropped.wait()
        greenlet(lambda: None).switch()

    thread = threading.Thread(target=body)
    thread.start()
    ready.wait()
    box.clear()
    assert log == []
    dropped.set()
    thread.join()
    assert log == [thread.ident]


def test_many_dropped_by_another_thread() -> None:
    log: list[int] = []
    box: list[greenlet] = []
    ready, dropped = threading.Event(), threading.Event()

    def run(n: int) -> None:
        try:
            park()
        finally:
            log.append(n)

    def body() -> None:
        for n in range(100):
            g = greenlet(run)
            g.switch(n)
            box.append(g)
        del g
        ready.set()
        dropped.wait()
        greenlet(lambda: None).switch()

    thread = threading.Thread(target=body)
    thread.start()
    ready.wait()
    box.clear()
    dropped.set()
    thread.join()
    assert sorted(log) == list(range(100))


def test_main_greenlet_can_be_asked_by_other_threads() -> None:
    main = getcurrent()
    assert in_thread(lambda: (main.dead, bool(main), main.parent)) == (False, True, None)
    g = parked()
    assert in_thread(lambda: (g.dead, bool(g), g.parent is main)) == (False, True, True)
    assert in_thread(lambda: g.gr_frame.f_code) is park.__code__
    assert "suspended" in in_thread(lambda: repr(g))


def test_no_growth_over_many_threads_with_parked_greenlets() -> None:
    local = threading.local()

    def body() -> None:
        local.kept = [parked() for _ in range(5)]

    for _ in range(5):
        in_thread(body)
    settle()
    before = sum(isinstance(o, greenlet) for o in gc.get_objects())
    for _ in range(50):
        in_thread(body)
    settle()
    # A leak would leave at least one greenlet a thread.
    assert sum(isinstance(o, greenlet) for o in gc.get_objects()) - before < 50


def test_references_to_run_are_given_back_after_a_refusal() -> None:
    def run() -> None:
        pass

    before = sys.getrefcount(run)
    g = in_thread(lambda: greenlet(run))
    with pytest.raises(error):
        g.switch()
    del g
    settle()
    assert sys.getrefcount(run) == before


@pytest.mark.parametrize("occasion", [getcurrent, greenlet])
def test_dropped_by_another_thread_dies_at_the_next_use_of_greenlets(
    occasion: Callable[[], Any],
) -> None:
    log: list[Any] = []
    shared: list[greenlet] = []
    dropped = threading.Event()

    def body() -> None:
        try:
            park()
        except GreenletExit:
            log.append(threading.current_thread())

    def owner() -> None:
        g = greenlet(body)
        g.switch()
        shared.append(g)
        del g
        started.set()
        dropped.wait(30)
        log.append("still there")
        occasion()
        log.append("used greenlets")

    started = threading.Event()
    thread = threading.Thread(target=owner)
    thread.start()
    started.wait(30)
    shared.clear()
    dropped.set()
    thread.join()
    assert log == ["still there", thread, "used greenlets"]


def test_repr_says_that_the_thread_has_ended() -> None:
    main = in_thread(getcurrent)
    g = in_thread(parked)
    settle()
    assert repr(main).endswith(" (thread exited) dead>")
    assert repr(g).endswith(" (thread exited) dead>")


def test_parent_of_an_ended_thread_is_refused_at_the_switch() -> None:
    main = in_thread(getcurrent)
    settle()
    g = greenlet(lambda: None)
    g.parent = main
    with pytest.raises(error, match=r"different thread .*exited"):
        g.switch()
    assert not g.dead
