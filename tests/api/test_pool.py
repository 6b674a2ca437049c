"""Group and Pool: spawning, limits, joining, killing, map and apply."""

import gevent
import pytest
from gevent import Greenlet, GreenletExit, Timeout
from gevent.event import Event
from gevent.pool import Group, Pool


class Boom(Exception):
    pass


def fail(*args):
    raise Boom(*args)


def double(x):
    gevent.sleep(0)
    return x * 2


@pytest.fixture(params=[Group, Pool, lambda: Pool(3)], ids=["Group", "Pool", "Pool(3)"])
def group(request):
    made = request.param()
    yield made
    made.kill()


def test_spawn_tracks_until_the_end(group):
    assert len(group) == 0
    assert not group
    g = group.spawn(double, 4)
    assert type(g) is Greenlet
    assert len(group) == 1
    assert group
    assert g in group
    assert list(group) == [g]
    assert g.get() == 8
    gevent.sleep(0)
    assert g not in group
    assert len(group) == 0


def test_spawn_passes_arguments(group):
    assert group.spawn(dict, [(1, 2)], a=3).get() == {1: 2, "a": 3}


def test_spawn_of_something_not_callable(group):
    with pytest.raises(TypeError):
        group.spawn(5)
    assert len(group) == 0


def test_join_waits_until_empty(group):
    gs = [group.spawn(gevent.sleep, 0.001) for _ in range(3)]
    assert group.join()
    assert all(g.ready() for g in gs)
    assert len(group) == 0


def test_join_of_an_empty_group_does_not_switch(group, never_switches):
    with never_switches():
        assert group.join()


@pytest.mark.parametrize("timeout", [0, 0.001])
def test_join_with_timeout(group, timeout):
    g = group.spawn(gevent.sleep, 100)
    assert not group.join(timeout=timeout)
    assert not g.ready()


def test_join_with_raise_error(group, capsys):
    group.spawn(double, 1)
    group.spawn(fail, "in a pool")
    with pytest.raises(Boom, match="in a pool"):
        group.join(raise_error=True)


def test_join_without_raise_error(group, capsys):
    group.spawn(fail)
    assert group.join()


def test_kill_kills_all_and_waits(group):
    gs = [group.spawn(gevent.sleep, 100) for _ in range(3)]
    gevent.sleep(0)
    group.kill()
    assert all(isinstance(g.value, GreenletExit) for g in gs)
    assert len(group) == 0


def test_kill_with_an_exception(group, capsys):
    g = group.spawn(gevent.sleep, 100)
    gevent.sleep(0)
    group.kill(Boom)
    assert isinstance(g.exception, Boom)


def test_kill_without_blocking(group, never_switches):
    g = group.spawn(gevent.sleep, 100)
    gevent.sleep(0)
    with never_switches():
        group.kill(block=False)
        assert not g.ready()
    g.join()
    assert g.dead


def test_kill_of_greenlets_not_yet_run(group):
    ran = []
    for i in range(3):
        group.spawn(ran.append, i)
    group.kill()
    gevent.sleep(0)
    assert ran == []
    assert len(group) == 0


def test_kill_with_timeout_returns(group):
    release = Event()

    def stubborn():
        try:
            gevent.sleep(100)
        except GreenletExit:
            release.wait()

    g = group.spawn(stubborn)
    gevent.sleep(0)
    group.kill(timeout=0.001)
    assert not g.ready()
    release.set()
    g.join()


def test_add_and_discard(group):
    g = Greenlet(double, 1)
    group.add(g)
    assert g in group
    g.start()
    group.discard(g)
    assert g not in group
    g.join()


def test_start(group):
    g = Greenlet(double, 3)
    group.start(g)
    assert g in group
    assert g.get() == 6


def test_map_keeps_the_order(group):
    def function(i):
        gevent.sleep(0.001 * (5 - i))
        return i

    assert group.map(function, range(5)) == list(range(5))
    assert group.map(double, iter([1, 2, 3])) == [2, 4, 6]
    assert group.map(double, []) == []


def test_map_raises_the_failure(group, capsys):
    with pytest.raises(Boom):
        group.map(fail, [1, 2])


def test_apply(group):
    assert group.apply(double, (4,)) == 8
    assert group.apply(dict, (), {"a": 1}) == {"a": 1}
    assert group.apply(dict) == {}
    with pytest.raises(TypeError):
        group.apply(len, (5,))


def test_pool_limits_how_many_run():
    pool = Pool(3)
    inside = 0
    most = 0

    def worker():
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        gevent.sleep(0)
        inside -= 1

    for _ in range(20):
        pool.spawn(worker)
        assert len(pool) <= 3
    pool.join()
    assert most == 3


def test_pool_spawn_blocks_while_full():
    pool = Pool(1)
    first = pool.spawn(gevent.sleep, 0.001)
    assert not first.ready()
    pool.spawn(gevent.sleep, 0)
    assert first.ready()
    pool.join()


def test_pool_spawn_can_be_timed_out_and_takes_no_place():
    pool = Pool(1)
    blocker = pool.spawn(gevent.sleep, 100)
    with pytest.raises(Timeout), Timeout(0.001):
        pool.spawn(double, 1)
    assert len(pool) == 1
    blocker.kill()
    assert pool.spawn(double, 5).get() == 10
    gevent.sleep(0)
    assert pool.free_count() == 1


def test_pool_free_count_and_full():
    pool = Pool(2)
    assert pool.size == 2
    assert pool.free_count() == 2
    assert not pool.full()
    gs = [pool.spawn(gevent.sleep, 100) for _ in range(2)]
    assert pool.free_count() == 0
    assert pool.full()
    gs[0].kill()
    gevent.sleep(0)
    assert pool.free_count() == 1
    assert not pool.full()
    pool.kill()
    assert pool.free_count() == 2


def test_pool_without_a_size_is_never_full():
    pool = Pool()
    assert pool.size is None
    for _ in range(50):
        pool.spawn(gevent.sleep, 0)
    assert not pool.full()
    assert pool.free_count() == 1
    pool.join()


def test_pool_bad_sizes():
    with pytest.raises(ValueError):
        Pool(-1)
    with pytest.raises(TypeError):
        Pool("x")


def test_pool_of_size_zero_never_has_room():
    pool = Pool(0)
    assert pool.full()
    assert pool.free_count() == 0
    with pytest.raises(Timeout), Timeout(0.001):
        pool.spawn(double, 1)
    assert len(pool) == 0


def test_pool_greenlet_class():
    class Special(Greenlet):
        pass

    assert type(Pool(1, Special).spawn(double, 1)) is Special
    gevent.sleep(0)


def test_a_failing_greenlet_gives_its_place_back(capsys):
    pool = Pool(1)
    for _ in range(3):
        pool.spawn(fail)
    pool.join()
    assert pool.free_count() == 1


def test_map_over_more_jobs_than_places():
    assert Pool(7).map(double, range(500)) == [2 * i for i in range(500)]
