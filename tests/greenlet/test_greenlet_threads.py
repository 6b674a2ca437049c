"""Greenlets belong to the thread that starts them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from greenlet import error, getcurrent, greenlet
from greenlet_support import finished, in_thread, park, parked


def test_each_thread_has_a_main_greenlet() -> None:
    def body() -> Any:
        own = getcurrent()
        return own is not main, own.parent, bool(own), own is getcurrent()

    main = getcurrent()
    assert in_thread(body) == (True, None, True, True)
    assert getcurrent() is main


def test_greenlets_work_in_a_thread() -> None:
    def body() -> list[Any]:
        g = greenlet(lambda x: [x, park("parked"), "end"])
        return [g.switch(1), g.switch(2), g.dead]

    assert in_thread(body) == ["parked", [1, 2, "end"], True]


def test_default_parent_is_the_thread_s_own() -> None:
    assert in_thread(lambda: greenlet(lambda: None).parent is getcurrent())


def test_main_of_a_thread_refuses_a_parent() -> None:
    def body() -> None:
        with pytest.raises(AttributeError):
            getcurrent().parent = greenlet(lambda: None)

    in_thread(body)


@pytest.mark.parametrize(
    "make",
    [lambda: greenlet(lambda: None), parked, finished, getcurrent],
    ids=["new", "parked", "finished", "main"],
)
def test_switch_to_another_thread_s_greenlet(make: Callable[[], greenlet]) -> None:
    g = make()
    before = (g.dead, bool(g))
    with pytest.raises(error, match="Cannot switch to a different thread"):
        in_thread(lambda: g.switch(1))
    with pytest.raises(error, match="Cannot switch to a different thread"):
        in_thread(lambda: g.throw(ValueError("x")))
    with pytest.raises(error, match="Cannot switch to a different thread"):
        in_thread(g.throw)
    assert (g.dead, bool(g)) == before


def test_refusal_leaves_a_parked_greenlet_unharmed() -> None:
    g = parked()
    with pytest.raises(error):
        in_thread(lambda: g.switch("from the thread"))
    assert g.switch("from here") == "from here"


def test_refusal_inside_a_greenlet_of_the_thread() -> None:
    g = parked()

    def body() -> str:
        try:
            g.switch()
        except error:
            return "refused"
        return "switched"

    assert in_thread(lambda: greenlet(body).switch()) == "refused"
    assert g.switch("fine") == "fine"


def test_error_is_catchable_by_its_name_on_the_class() -> None:
    g = parked()
    with pytest.raises(greenlet.error):
        in_thread(g.switch)


def test_result_for_a_parent_in_another_thread() -> None:
    main = getcurrent()

    def body() -> None:
        greenlet(lambda: "result", main).switch()

    with pytest.raises(error, match="different thread"):
        in_thread(body)


def test_started_greenlet_cannot_get_a_parent_in_another_thread() -> None:
    main = getcurrent()

    def body() -> None:
        g = parked()
        with pytest.raises(ValueError, match="different thread"):
            g.parent = main
        assert g.parent is getcurrent()
        g.switch()

    in_thread(body)


def test_unstarted_greenlet_runs_where_its_parent_lives() -> None:
    """Made in one thread, given a parent in another: it then belongs there."""

    def make() -> greenlet:
        return greenlet(lambda: threading.get_ident())

    g = in_thread(make)
    g.parent = getcurrent()
    assert g.switch() == threading.get_ident()


def test_many_threads_switch_independently() -> None:
    rounds, count = 200, 8
    barrier = threading.Barrier(count)
    results: dict[int, list[int]] = {}

    def body(n: int) -> None:
        def worker(k: int) -> int:
            total = 0
            for _ in range(rounds):
                total += park(k)
            return total

        greenlets = [greenlet(worker) for _ in range(5)]
        barrier.wait()
        for k, g in enumerate(greenlets):
            assert g.switch(k) == k
        for r in range(rounds - 1):
            for k, g in enumerate(greenlets):
                assert g.switch(r * n) == k
        results[n] = [g.switch(0) for g in greenlets]

    threads = [threading.Thread(target=body, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = sum(range(rounds - 1))
    assert results == {n: [expected * n] * 5 for n in range(count)}


def test_exceptions_stay_in_their_thread() -> None:
    def body() -> None:
        greenlet(lambda: 1 // 0).switch()

    with pytest.raises(ZeroDivisionError):
        in_thread(body)


def test_thread_locals_are_shared_by_the_greenlets_of_a_thread() -> None:
    local = threading.local()
    local.value = "main thread"

    def body() -> Any:
        local.value = "other thread"
        return greenlet(lambda: local.value).switch()

    assert in_thread(body) == "other thread"
    assert greenlet(lambda: local.value).switch() == "main thread"


def test_many_short_threads() -> None:
    for n in range(50):
        assert in_thread(lambda n=n: greenlet(lambda: n).switch()) == n


def test_lock_taken_in_one_greenlet_and_released_in_another() -> None:
    lock = threading.Lock()
    greenlet(lock.acquire).switch()
    assert lock.locked()
    greenlet(lock.release).switch()
    assert not lock.locked()


def test_thread_started_and_joined_in_a_greenlet() -> None:
    assert greenlet(lambda: in_thread(lambda: greenlet(lambda: "deep").switch())).switch() == "deep"


def test_refusal_names_both_threads() -> None:
    def body() -> str:
        with pytest.raises(error) as caught:
            other.switch()
        return str(caught.value)

    main = getcurrent()
    other = greenlet(lambda: None)
    text = in_thread(body)
    assert text.startswith("Cannot switch to a different thread")
    assert f"{id(main):#x}" in text.partition("Expected:")[2]
    assert "Current:" in text


def test_what_runs_in_another_thread_is_suspended_here() -> None:
    main = getcurrent()
    assert "current" in repr(main)
    assert repr(main).replace("current", "suspended") == in_thread(lambda: repr(main))


def test_thread_of_an_unstarted_greenlet_is_that_of_its_ancestors() -> None:
    """Also if it is a grandparent that was moved."""
    grandparent = greenlet(lambda value: ("grandparent", getcurrent().parent, value))
    parent = greenlet(lambda value: ("parent", value), grandparent)
    child = greenlet(lambda: "child", parent)

    def move_and_switch() -> Any:
        grandparent.parent = getcurrent()
        return child.switch()[2]

    with pytest.raises(error, match="different thread"):
        in_thread(lambda: child.switch())
    assert in_thread(move_and_switch) == ("parent", "child")
    assert grandparent.dead


def test_looking_up_run_may_move_a_greenlet_to_another_thread() -> None:
    class Moving(greenlet):
        def __getattribute__(self, name: str) -> Any:
            if name == "run":
                self.parent = foreign
            return super().__getattribute__(name)

    def stay() -> None:
        mains.append(getcurrent())
        ready.set()
        done.wait(30)

    mains: list[greenlet] = []
    ready, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=stay)
    thread.start()
    ready.wait(30)
    foreign = mains.pop()
    try:
        g = Moving(lambda: None)
        with pytest.raises(error, match="different thread"):
            g.switch()
        assert not g.dead
    finally:
        done.set()
        thread.join()
