"""Group and Pool: imap, async variants, waiting for room, single kills."""

import queue

import gevent
import pytest
from gevent import Greenlet, GreenletExit
from gevent.pool import Group, Pool, PoolFull


class Boom(Exception):
    pass


def double(x):
    gevent.sleep(0)
    return x * 2


def inverse(x):
    return 1 / x


@pytest.fixture(params=[Group, Pool, lambda: Pool(3)], ids=["Group", "Pool", "Pool(3)"])
def group(request):
    made = request.param()
    yield made
    made.kill()


def test_imap_keeps_the_order(group):
    def function(i):
        gevent.sleep(0.001 * (5 - i))
        return i

    assert list(group.imap(function, range(5))) == list(range(5))


def test_imap_unordered_yields_as_they_finish():
    def function(seconds):
        gevent.sleep(seconds)
        return seconds

    seconds = [0.06, 0.001, 0.03]
    assert list(Pool().imap_unordered(function, seconds)) == sorted(seconds)


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_imap_takes_several_iterables(group, method):
    def add(a, b):
        return a + b

    assert sorted(getattr(group, method)(add, [1, 2, 3], [10, 20])) == [11, 22]


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_imap_raises_and_then_goes_on(group, method, capsys):
    results = getattr(group, method)(inverse, [1, 0, 2])
    got = []
    errors = 0
    while True:
        try:
            got.append(next(results))
        except StopIteration:
            break
        except ZeroDivisionError:
            errors += 1
    assert sorted(got) == [0.5, 1.0]
    assert errors == 1


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_imap_maxsize_limits_how_far_it_runs_ahead(method):
    started = []

    def function(i):
        started.append(i)
        return i

    results = getattr(Pool(), method)(function, range(1000), maxsize=2)
    assert next(results) == 0
    for _ in range(20):
        gevent.sleep(0)
    assert len(started) < 20
    assert sorted(results) == list(range(1, 1000))


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_imap_bad_arguments(group, method, capsys):
    with pytest.raises(TypeError):
        list(getattr(group, method)(double, [1], unknown=1))
    with pytest.raises(ValueError):
        list(getattr(group, method)(double, [1], maxsize=-1))
    with pytest.raises(TypeError):
        list(getattr(group, method)(double, 5))


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_imap_of_an_iterable_that_fails(group, method, capsys):
    def source():
        yield 1
        raise Boom("source")

    with pytest.raises(Boom, match="source"):
        list(getattr(group, method)(double, source()))


def test_map_bad_arguments(group, capsys):
    with pytest.raises(TypeError):
        group.map(double)
    with pytest.raises(TypeError):
        group.map(double, 5)


def test_map_async(group):
    seen = []
    result = group.map_async(double, [1, 2], callback=seen.append)
    assert result.get() == [2, 4]
    gevent.sleep(0)
    assert seen == [[2, 4]]


def test_apply_async(group):
    seen = []
    result = group.apply_async(double, (4,), callback=seen.append)
    assert isinstance(result, Greenlet)
    assert result.get() == 8
    gevent.sleep(0)
    assert seen == [8]
    assert group.apply_async(dict, kwds={"a": 1}).get() == {"a": 1}


def test_apply_async_does_not_call_back_on_failure(group, capsys):
    seen = []
    result = group.apply_async(inverse, (0,), callback=seen.append)
    with pytest.raises(ZeroDivisionError):
        result.get()
    gevent.sleep(0)
    assert seen == []


def test_apply_async_does_not_block_when_full(never_switches):
    pool = Pool(1)
    blocker = pool.spawn(gevent.sleep, 100)
    gevent.sleep(0)
    with never_switches():
        result = pool.apply_async(double, (2,))
    assert not result.ready()
    blocker.kill()
    assert result.get() == 4


def test_apply_cb(group):
    seen = []
    assert group.apply_cb(double, (2,), callback=seen.append) == 4
    gevent.sleep(0)
    assert seen == [4]


def test_apply_inside_a_member_of_a_full_pool_runs_in_place():
    pool = Pool(1)

    def outer():
        return pool.apply(gevent.getcurrent), gevent.getcurrent()

    inner, current = pool.spawn(outer).get()
    assert inner is current


def test_killone(group):
    first, second = group.spawn(gevent.sleep, 100), group.spawn(gevent.sleep, 100)
    gevent.sleep(0)
    group.killone(first)
    assert isinstance(first.value, GreenletExit)
    gevent.sleep(0)
    assert not second.ready()
    assert list(group) == [second]
    stranger = gevent.spawn(gevent.sleep, 100)
    gevent.sleep(0)
    group.killone(stranger)
    assert not stranger.ready()
    stranger.kill()


def test_killone_with_exception_and_without_blocking(group, capsys):
    g = group.spawn(gevent.sleep, 100)
    gevent.sleep(0)
    group.killone(g, Boom, block=False)
    assert not g.ready()
    g.join()
    assert isinstance(g.exception, Boom)


def test_group_of_existing_greenlets():
    gs = [gevent.spawn(double, i) for i in range(3)]
    group = Group(gs)
    assert len(group) == 3
    gevent.joinall(gs)
    gevent.sleep(0)
    assert len(group) == 0
    with pytest.raises(TypeError):
        Group(1)


def test_group_accepts_plain_greenlets():
    group = Group()
    current = gevent.getcurrent()
    group.add(current)
    assert current in group
    group.discard(current)
    assert len(group) == 0


def test_discard_of_a_stranger_does_nothing():
    group = Group()
    group.discard(gevent.spawn(double, 1))
    assert len(group) == 0
    gevent.sleep(0)


def test_group_is_never_full():
    group = Group()
    assert group.full() is False
    assert group.wait_available() is None
    assert group.wait_available(timeout=1) is None


def test_wait_available():
    pool = Pool(1)
    assert pool.wait_available() == 1
    g = pool.spawn(gevent.sleep, 0.001)
    assert pool.wait_available(timeout=0) == 0
    assert pool.wait_available() == 1
    assert g.ready()
    assert Pool(0).wait_available(timeout=0.001) == 0
    assert Pool().wait_available() == 1


def test_add_and_start_to_a_full_pool():
    pool = Pool(1)
    blocker = pool.spawn(gevent.sleep, 100)
    with pytest.raises(PoolFull):
        pool.add(Greenlet(double, 1), blocking=False)
    with pytest.raises(PoolFull):
        pool.add(Greenlet(double, 1), timeout=0.001)
    with pytest.raises(PoolFull):
        pool.start(Greenlet(double, 1), blocking=False)
    with pytest.raises(PoolFull):
        pool.start(Greenlet(double, 1), timeout=0.001)
    assert len(pool) == 1
    blocker.kill()
    gevent.sleep(0)
    g = Greenlet(double, 1)
    pool.start(g, blocking=False)
    assert g.get() == 2


def test_pool_full_is_queue_full():
    assert issubclass(PoolFull, queue.Full)


def test_repr():
    group = Group()
    assert repr(group) == f"<Group at {hex(id(group))} set()>"
    assert repr(Pool()).startswith("<Pool at 0x")


def test_greenlet_class_of_a_subclass():
    class Special(Greenlet):
        pass

    class SpecialGroup(Group):
        greenlet_class = Special

    group = SpecialGroup()
    assert type(group.spawn(double, 1)) is Special
    group.join()


def test_a_member_may_spawn_into_its_group():
    group = Group()
    log = []

    def parent():
        log.append("parent")
        group.spawn(log.append, "child")

    group.spawn(parent)
    group.join()
    gevent.sleep(0)
    assert log == ["parent", "child"]


def test_mutable_size_and_semaphore():
    pool = Pool(1)
    pool._semaphore.counter += 1
    pool.size += 1
    gs = [pool.spawn(gevent.sleep, 100) for _ in range(2)]
    assert len(pool) == 2
    assert pool.full()
    gevent.killall(gs)
