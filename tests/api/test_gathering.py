"""Edges of waiting for, joining and killing several greenlets, alone, in groups and in pools."""

import os

import gevent
import pytest
from gevent import Greenlet, GreenletExit, Timeout
from gevent.event import Event
from gevent.lock import Semaphore
from gevent.pool import Group, Pool, PoolFull
from gevent.threadpool import ThreadPool

beyond_gevent = pytest.mark.skipif(
    os.environ.get("GREENLOOP_TEST_PEER") == "1", reason="what greenloop promises beyond gevent"
)


class Boom(Exception):
    pass


def later(seconds, value=None):
    gevent.sleep(seconds)
    return value


def test_joinall_gives_those_that_had_ended_first_in_their_order():
    slow, fast = gevent.spawn(later, 0.02), gevent.spawn(later, 0.001)
    gevent.joinall([slow, fast])
    last = gevent.spawn(later, 0.001)
    assert gevent.joinall([last, slow, fast]) == [slow, fast, last]
    assert gevent.joinall([slow, fast]) == [slow, fast]


@beyond_gevent
def test_wait_and_joinall_take_iterators():
    gs = [gevent.spawn(later, 0) for _ in range(3)]
    assert gevent.joinall(iter(gs)) == gs
    assert gevent.wait(iter(gs), count=2) == gs[:2]
    assert list(gevent.iwait(iter(gs))) == gs


@beyond_gevent
def test_a_count_below_zero_waits_for_nothing():
    assert gevent.wait([Event()], count=-1) == []


def test_iwait_of_the_same_object_twice():
    event = Event()
    gevent.spawn(event.set)
    assert list(gevent.iwait([event, event])) == [event, event]


def test_iwait_is_a_context_manager_that_takes_its_links_back():
    never = Greenlet(len, "")
    with gevent.iwait([gevent.spawn(len, ""), never]) as ready:
        next(ready)
        assert never.has_links()
    assert not never.has_links()


@beyond_gevent
def test_a_loop_over_iwait_that_is_left_takes_its_links_back():
    never = Greenlet(len, "")
    for _ in gevent.iwait([gevent.spawn(len, ""), never]):
        break
    assert not never.has_links()


def test_iwait_takes_its_links_back_when_it_is_interrupted():
    never = Greenlet(len, "")
    with pytest.raises(Timeout), Timeout(0.001):
        list(gevent.iwait([never]))
    assert not never.has_links()


def test_wait_for_a_semaphore_does_not_take_it():
    lock = Semaphore(0)
    gevent.spawn(lock.release)
    assert gevent.wait([lock], timeout=30) == [lock]
    assert lock.counter == 1


@beyond_gevent
def test_joinall_takes_a_timeout_object_and_stops_it():
    slow = gevent.spawn(later, 100)
    timeout = Timeout(0.001)
    assert gevent.joinall([slow], timeout=timeout) == []
    assert not timeout.pending
    with pytest.raises(Boom), Timeout(0.001, Boom):
        gevent.joinall([slow], timeout=(timeout := Timeout(100)))
    assert not timeout.pending
    slow.kill()


def test_killall_of_the_killer_too():
    gs = []

    def function():
        gs.append(gevent.spawn(later, 100))
        gevent.sleep(0)
        gevent.killall([*gs, gevent.getcurrent()])
        return "not reached"

    g = gevent.spawn(function)
    g.join()
    assert isinstance(g.value, GreenletExit)
    gevent.joinall(gs, timeout=30)
    assert all(other.dead for other in gs)


def test_killall_takes_a_timeout_object():
    release = Event()

    def stubborn():
        try:
            gevent.sleep(100)
        except GreenletExit:
            release.wait()

    g = gevent.spawn(stubborn)
    gevent.sleep(0)
    timeout = Timeout(0.001)
    with pytest.raises(Timeout) as caught:
        gevent.killall([g], timeout=timeout)
    assert caught.value is timeout
    release.set()
    g.join()


@beyond_gevent
def test_a_group_with_raw_members_can_be_killed():
    group = Group()
    raw = gevent.spawn_raw(gevent.sleep, 100)
    group.add(raw)
    member = group.spawn(later, 100)
    gevent.sleep(0)
    group.kill()
    gevent.sleep(0)
    assert raw.dead
    assert member.dead
    assert len(group) == 0


def test_kill_kills_those_that_join_meanwhile():
    group = Group()
    children = []

    def parent():
        try:
            gevent.sleep(100)
        finally:
            children.append(group.spawn(later, 100))

    group.spawn(parent)
    gevent.sleep(0)
    group.kill()
    [child] = children
    assert child.dead
    assert len(group) == 0


@beyond_gevent
def test_a_pool_counts_a_member_once_however_it_comes_and_goes():
    pool = Pool(2)
    g = pool.spawn(later, 100)
    pool.add(g)
    assert pool.free_count() == 1
    pool.discard(g)
    pool.discard(g)
    assert pool.wait_available() == 2
    g.kill()
    gevent.sleep(0)
    assert pool.wait_available() == 2


@beyond_gevent
def test_a_member_that_cannot_be_started_gives_its_place_back():
    class Unstartable(Greenlet):
        def start(self):
            raise Boom

    pool = Pool(1)
    for _ in range(2):
        with pytest.raises(Boom):
            pool.start(Unstartable(len, ""))
    assert len(pool) == 0
    assert pool.wait_available() == 1


def test_a_place_is_free_again_after_its_member_was_killed_before_it_ran():
    pool = Pool(1)
    pool.spawn(later, 100).kill()
    assert pool.spawn(later, 0, "ran").get() == "ran"


def test_kill_of_a_pool_lets_those_in_that_wait_for_a_place():
    pool = Pool(1)
    pool.spawn(later, 100)
    waiting = gevent.spawn(pool.spawn, later, 0, "ran")
    gevent.sleep(0)
    pool.killone(next(iter(pool)))
    assert waiting.get().get() == "ran"
    pool.join()


def test_full_pool_and_attributes_of_its_error():
    pool = Pool(1)
    g = pool.spawn(later, 100)
    with pytest.raises(PoolFull):
        pool.start(Greenlet(len, ""), blocking=False)
    g.kill()


@beyond_gevent
@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_an_exhausted_imap_stays_exhausted(method):
    results = getattr(Pool(2), method)(later, [0, 0], [1, 2])
    assert sorted(results) == [1, 2]
    assert list(results) == []
    with pytest.raises(StopIteration):
        next(results)


@beyond_gevent
@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_several_greenlets_share_the_results_of_an_imap(method):
    results = getattr(Pool(3), method)(later, [0.001] * 20, range(20))
    consumers = [gevent.spawn(list, results) for _ in range(4)]
    gevent.joinall(consumers, timeout=30, raise_error=True)
    assert sorted(value for g in consumers for value in g.value) == list(range(20))


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_an_interrupted_next_loses_no_result(method):
    results = getattr(Group(), method)(later, [0.02, 0.02], "ab")
    with pytest.raises(Timeout), Timeout(0.001):
        next(results)
    assert sorted(results) == ["a", "b"]


@beyond_gevent
@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
@pytest.mark.parametrize("before", [True, False])
def test_a_killed_imap_ends(method, before):
    results = getattr(Pool(1), method)(later, [0] * 100, range(100))
    if not before:
        assert next(results) == 0
    results.kill()
    assert len(list(results)) < 5


def test_imap_maxsize_zero_is_no_limit():
    assert list(Pool().imap(later, [0] * 5, range(5), maxsize=0)) == list(range(5))


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_imap_of_native_threads(method):
    pool = ThreadPool(2)
    results = getattr(pool, method)(divmod, [7, 8, 9], [2, 3, 4])
    assert sorted(results) == [(2, 1), (2, 2), (3, 1)]
    failing = getattr(pool, method)(int, ["x"])
    with pytest.raises(ValueError, match="'x'"):
        next(failing)
    pool.kill()


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_imap_of_greenlets_of_a_class_of_ones_own(method):
    class Ours(Greenlet):
        made = 0

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            Ours.made += 1

    pool = Pool(2, greenlet_class=Ours)
    assert sorted(getattr(pool, method)(later, [0, 0, 0], [1, 2, 3])) == [1, 2, 3]
    assert Ours.made == 3
