"""`greenloop.shield`: what is held back, when it is raised, and what passes."""

import asyncio
import gc
import signal
import subprocess
import sys
import threading
import weakref

import greenlet as raw
import pytest

import greenloop
from greenloop import (
    GreenletExit,
    Timeout,
    _core,
    getcurrent,
    kill,
    killall,
    shield,
    sleep,
    socket,
    spawn,
)
from greenloop.event import AsyncResult, Event
from greenloop.hub import Waiter
from greenloop.lock import BoundedSemaphore, RLock, Semaphore
from greenloop.pool import Group, Pool
from greenloop.queue import Channel, PriorityQueue, Queue, SimpleQueue
from greenloop.threadpool import ThreadPool

GUARD = 20


@pytest.fixture(autouse=True)
def guard():
    with Timeout(GUARD, AssertionError("the test hangs")):
        yield


class Stop(Exception):
    pass


def shielded(wait, log):
    """A greenlet's function: waits in a shield, then outside of it."""
    try:
        with shield():
            log.append("in")
            log.append(("got", wait()))
        log.append("not reached")
    except BaseException as error:
        log.append(type(error))
        raise


def waits():
    """Each primitive: what to wait with, and what ends the wait."""
    event, result, value = Event(), AsyncResult(), AsyncResult()
    yield "event", event.wait, event.set, True
    yield "result", result.get, lambda: result.set(3), 3
    yield "result_wait", value.wait, lambda: value.set(4), 4
    for kind in (Semaphore, BoundedSemaphore):
        semaphore = kind(1)
        semaphore.acquire()
        yield kind.__name__, semaphore.acquire, semaphore.release, True
    counter = Semaphore(0)
    yield "semaphore_wait", counter.wait, counter.release, 1
    for kind in (Queue, SimpleQueue, PriorityQueue):
        queue = kind()
        yield kind.__name__, queue.get, lambda queue=queue: queue.put(5), 5
    full = Queue(1)
    full.put(0)
    yield "put", lambda: full.put(1), full.get, None
    joined = Queue()
    joined.put(1)
    yield "queue_join", joined.join, joined.task_done, True
    channel, offers = Channel(), Channel()
    yield "channel_get", channel.get, lambda: spawn(channel.put, 6), 6
    yield "channel_put", lambda: offers.put(7), offers.get, None
    waiter = Waiter()
    yield "waiter", waiter.get, lambda: waiter.switch(8), 8
    job = Event()
    other = spawn(job.wait)
    yield "join", other.join, job.set, None
    job2 = Event()
    other2 = spawn(job2.wait)
    yield "get", other2.get, job2.set, True
    group_job = Event()
    group = Group()
    group.spawn(group_job.wait)
    yield "group_join", group.join, group_job.set, True
    pool = Pool(1)
    pool_job = Event()
    pool.spawn(pool_job.wait)
    yield "pool_spawn", lambda: pool.spawn(int).get(), pool_job.set, 0
    for_iwait = Event()
    yield "wait", lambda: len(greenloop.wait([for_iwait])), for_iwait.set, 1
    threads = ThreadPool(1)
    native = threading.Event()
    yield "threadpool", lambda: threads.apply(native.wait), native.set, True


WAITS = ["event", "result", "result_wait", "Semaphore", "BoundedSemaphore", "semaphore_wait"]
WAITS += ["Queue", "SimpleQueue", "PriorityQueue", "put", "queue_join", "channel_get"]
WAITS += ["channel_put", "waiter", "join", "get", "group_join", "pool_spawn", "wait", "threadpool"]


@pytest.mark.parametrize("name", WAITS)
def test_a_kill_waits_until_the_block_ends(name):
    ((wait, end, value),) = [found[1:] for found in waits() if found[0] == name]
    log = []
    greenlet = spawn(shielded, wait, log)
    sleep(0)
    assert log == ["in"]
    killer = spawn(greenlet.kill, Stop)
    sleep(0.01)
    assert log == ["in"]
    assert not killer.ready()
    end()
    killer.join()
    assert log == ["in", ("got", value), Stop]
    assert isinstance(greenlet.exception, Stop)


@pytest.mark.parametrize("name", WAITS)
def test_a_timeout_waits_until_the_block_ends(name):
    ((wait, end, value),) = [found[1:] for found in waits() if found[0] == name]
    log = []

    def run():
        with Timeout(0.001, Stop):
            shielded(wait, log)

    greenlet = spawn(run)
    sleep(0.02)
    assert log == ["in"]
    end()
    greenlet.join()
    assert log == ["in", ("got", value), Stop]


def test_the_rlock_is_not_lost():
    lock = RLock()
    lock.acquire()
    log = []
    greenlet = spawn(shielded, lock.acquire, log)
    sleep(0)
    greenlet.kill(block=False)
    sleep(0)
    lock.release()
    greenlet.join()
    assert log == ["in", ("got", True), GreenletExit]


def test_what_waits_in_one_greenlet_does_not_shield_another():
    log = []
    safe, other = spawn(shielded, lambda: sleep(0.02), log), spawn(sleep, 100)
    sleep(0)
    killall([safe, other], block=False)
    other.join()
    assert log == ["in"]
    safe.join()
    assert log == ["in", ("got", None), GreenletExit]


def test_killall_with_a_timeout_does_not_wait_longer():
    release = Event()
    greenlet = spawn(shielded, release.wait, [])
    sleep(0)
    with pytest.raises(Timeout):
        killall([greenlet], timeout=0.01)
    assert not greenlet.ready()
    release.set()
    greenlet.join()
    assert isinstance(greenlet.value, GreenletExit)


@pytest.mark.parametrize("kind", [Group, lambda: Pool(3)])
def test_a_pool_waits_for_the_end_of_blocks(kind):
    pool, release, log = kind(), Event(), []
    for _ in range(3):
        pool.spawn(shielded, release.wait, log)
    sleep(0)
    pool.kill(timeout=0.01)
    assert len(pool) == 3
    spawn(release.set)
    pool.kill()
    assert len(pool) == 0
    assert log == ["in"] * 3 + [("got", True), GreenletExit] * 3


def test_nothing_is_raised_if_nothing_came():
    with shield():
        sleep(0)
    sleep(0)


def test_the_first_is_raised_and_the_others_follow():
    log = []

    def run():
        try:
            with shield():
                sleep(0.01)
        except Stop as error:
            log.append(error.args)
        try:
            log.append("between")
            sleep(GUARD)
        except Stop as error:
            log.append(error.args)
        sleep(GUARD)

    greenlet = spawn(run)
    sleep(0)
    greenlet.kill(Stop(1), block=False)
    greenlet.kill(Stop(2), block=False)
    greenlet.kill(block=False)
    greenlet.join()
    assert log == [(1,), "between", (2,)]
    assert isinstance(greenlet.value, GreenletExit)


def test_the_end_of_the_outermost_counts():
    log = []

    def run():
        with shield():
            with shield():
                sleep(0.01)
            log.append("between")
            sleep(0)
            log.append("still")
        log.append("not reached")

    greenlet = spawn(run)
    sleep(0)
    greenlet.kill()
    assert log == ["between", "still"]


def test_a_timeout_started_inside_works():
    with shield():
        with pytest.raises(Timeout), Timeout(0.001):
            sleep(GUARD)
        with Timeout(0.001, False):
            sleep(GUARD)
        with pytest.raises(Stop), Timeout(0.001, Stop):
            sleep(GUARD)
        assert Event().wait(0.001) is False
        assert greenloop.with_timeout(0.001, sleep, GUARD, timeout_value="over") == "over"


def test_a_timeout_started_in_the_outer_block_is_held_by_the_inner():
    log = []
    with shield():
        timeout = Timeout.start_new(0.001)
        with pytest.raises(Timeout) as caught:
            with shield():
                sleep(0.02)
                log.append("inner is over")
            log.append("not reached")
        assert caught.value is timeout
    assert log == ["inner is over"]


@pytest.mark.parametrize("exception", [None, Stop, Stop(), "text", False])
@pytest.mark.parametrize("ref", [True, False])
def test_a_timeout_cancelled_in_the_block_is_not_raised(exception, ref):
    timeout = Timeout.start_new(0.001, exception, ref=ref)
    keep = spawn(sleep, 0.05)
    with shield():
        sleep(0.02)
        assert timeout.pending
        timeout.cancel()
        assert not timeout.pending
    sleep(0)
    keep.kill()


@pytest.mark.parametrize("ref", [True, False])
@pytest.mark.parametrize("exception", [None, Stop, Stop()])
def test_a_timeout_is_raised_by_the_end_of_the_block(exception, ref):
    keep = spawn(sleep, 0.05)
    with pytest.raises((Timeout, Stop)), Timeout(0.001, exception, ref=ref):
        with shield():
            sleep(0.02)
        pytest.fail("reached")
    keep.kill()


def test_an_exception_of_the_block_is_the_context():
    error = ValueError()

    def run():
        with shield():
            sleep(0)
            sleep(0)
            raise error

    greenlet = spawn(run)
    sleep(0)
    greenlet.kill(Stop)
    assert isinstance(greenlet.exception, Stop)
    assert greenlet.exception.__context__ is error


def test_an_exception_of_the_block_passes_if_nothing_was_held_back():
    with pytest.raises(ValueError), shield():
        raise ValueError


def test_a_greenlet_that_ends_itself():
    for end in (
        lambda: getcurrent().kill(),
        lambda: killall([spawn(sleep, GUARD), getcurrent()]),
        lambda: getcurrent().throw(GreenletExit),
    ):
        log = []
        greenlet = spawn(shielded, end, log)
        greenlet.join(GUARD)
        assert log == ["in", GreenletExit]


def test_held_back_before_a_greenlet_waits_for_its_own_end():
    log = []

    def wait():
        sleep(0.01)
        getcurrent().join()

    greenlet = spawn(shielded, wait, log)
    sleep(0)
    greenlet.kill(Stop)
    assert log == ["in", Stop]


def test_throw():
    log = []
    greenlet = spawn(shielded, lambda: sleep(0.01), log)
    sleep(0)
    hub = greenloop.get_hub()
    answers = []
    hub.loop.run_callback(lambda: answers.append(greenlet.throw(Stop)))
    greenlet.join()
    assert answers == [None]
    assert log == ["in", ("got", None), Stop]


def test_a_raw_greenlet_and_the_main_one():
    log, done = [], Event()

    def run():
        try:
            with shield():
                sleep(0.01)
                log.append("over")
        finally:
            done.set()

    greenlet = greenloop.spawn_raw(run)
    sleep(0)
    kill(greenlet)
    done.wait()
    assert log == ["over"]

    with pytest.raises(Stop), shield():
        spawn(kill, getcurrent(), Stop)
        sleep(0.01)
        log.append("main")
    assert log == ["over", "main"]


def test_an_answer_thrown_by_a_switch_is_no_kill():
    def run():
        with shield():
            try:
                raw.getcurrent().parent.switch("asks")
            except Stop:
                return "told"

    greenlet = raw.greenlet(run)
    assert greenlet.switch() == "asks"
    assert greenlet.throw(Stop) == "told"


def test_a_forgotten_greenlet_ends_all_the_same():
    ended = []

    def run():
        try:
            with shield():
                raw.getcurrent().parent.switch()
        except GreenletExit:
            ended.append(True)
            raise

    greenlet = raw.greenlet(run)
    greenlet.switch()
    del greenlet
    gc.collect()
    assert ended == [True]


def test_errors_of_what_is_waited_for_pass():
    left, right = socket.socketpair()
    log = []

    def run():
        with shield():
            try:
                left.recv(1)
            except OSError as error:
                log.append(error.errno)

    greenlet = spawn(run)
    sleep(0)
    left.close()
    greenlet.join()
    assert len(log) == 1
    right.close()


def test_cancel_wait_passes():
    hub = greenloop.get_hub()
    watcher = hub.loop.timer(GUARD)
    log = []

    def run():
        with shield():
            try:
                hub.wait(watcher)
            except Stop:
                log.append("cancelled")

    greenlet = spawn(run)
    sleep(0)
    hub.cancel_wait(watcher, Stop)
    greenlet.join()
    assert log == ["cancelled"]


def test_loop_exit_passes():
    # In a process of its own: threads of other tests would keep the loop waiting, and so would
    # the guard.
    program = """
from greenloop import shield
from greenloop.event import Event
from greenloop.hub import LoopExit
try:
    with shield():
        Event().wait()
except LoopExit:
    print("told")
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=GUARD, check=True
    )
    assert ran.stdout == "told\n"


def test_signal_handlers_pass():
    def handler(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(KeyboardInterrupt), shield():
            sleep(GUARD)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_killed_from_another_thread():
    log = []
    greenlet = spawn(shielded, lambda: sleep(0.05), log)
    sleep(0)
    thread = threading.Thread(target=greenlet.kill, args=(Stop,), kwargs={"block": False})
    thread.start()
    greenlet.join()
    thread.join()
    assert log == ["in", ("got", None), Stop]


def test_decorated_functions():
    @shield()
    def plain(seconds):
        """Text."""
        sleep(seconds)
        return seconds

    assert plain.__name__ == "plain"
    assert plain.__doc__ == "Text."
    assert plain(0) == 0
    log = []

    def run():
        try:
            plain(0.01)
        except Stop:
            log.append("held")

    greenlets = [spawn(run) for _ in range(2)]
    sleep(0)
    killall(greenlets, Stop)
    assert log == ["held"] * 2


def test_decorated_coroutines():
    @shield()
    async def coroutine():
        await asyncio.sleep(0.02)
        log.append("over")

    log = []
    greenlet = spawn(asyncio.run, coroutine())
    sleep(0.005)
    greenlet.kill()
    assert log == ["over"]


def test_generator_functions_are_refused():
    def generator():
        yield

    async def asynchronous():
        yield

    for function in (generator, asynchronous):
        with pytest.raises(TypeError, match="generator"):
            shield()(function)


def test_a_shield_is_used_again_but_not_by_two():
    guard = shield()
    with guard:
        with guard:
            pass

        def other():
            with pytest.raises(RuntimeError, match="another greenlet"):
                guard.__enter__()
            return True

        assert spawn(other).get()
    with guard:
        pass
    with pytest.raises(RuntimeError, match="not been entered"):
        guard.__exit__(None, None, None)


def test_a_generator_finished_by_another_greenlet():
    log = []

    def steps():
        with shield():
            yield
            log.append("not reached")

    generators = []

    def run():
        generator = steps()
        next(generator)
        generators.append(generator)
        del generator
        try:
            sleep(GUARD)
        except Stop:
            log.append("stopped")

    greenlet = spawn(run)
    sleep(0)
    greenlet.kill(Stop, block=False)
    sleep(0.01)
    assert log == []
    generators.pop().close()
    greenlet.join()
    assert log == ["stopped"]


def test_a_generator_finished_after_its_greenlet():
    def steps():
        with shield():
            yield

    generators = []

    def run():
        generators.append(steps())
        next(generators[0])

    spawn(run).join()
    gc.collect()
    generators.pop().close()
    assert _core._shield_level(getcurrent()) == 0


def test_a_generator_finished_in_another_thread():
    def steps():
        with shield():
            yield

    generator = steps()
    next(generator)
    kill(getcurrent(), Stop)
    sleep(0)
    thread = threading.Thread(target=generator.close)
    thread.start()
    thread.join()
    with pytest.raises(Stop):
        sleep(GUARD)


def test_a_pool_lets_in_who_is_shielded():
    """Waiting for a place in a pool is a wait like others: neither place nor greenlet is lost."""

    def spawn_one(pool):
        return pool.spawn(int)

    def add_one(pool):
        greenlet = greenloop.Greenlet(int)
        pool.add(greenlet)
        greenlet.start()
        return greenlet

    def run(pool, enter, log):
        with shield():
            log.append(enter(pool))
        log.append("not reached")

    for enter in (spawn_one, add_one):
        pool, job, log = Pool(1), Event(), []
        pool.spawn(job.wait)
        greenlet = spawn(run, pool, enter, log)
        sleep(0)
        with Timeout(0.001, False):
            greenlet.kill(Stop)
        assert log == []
        job.set()
        greenlet.join()
        assert isinstance(greenlet.exception, Stop)
        assert [entered.get() for entered in log] == [0]
        sleep(0)
        assert pool.free_count() == 1


def test_a_thread_that_ends_ends_its_greenlets_shielded_or_not():
    log = []

    def run():
        try:
            with shield():
                sleep(GUARD)
        except GreenletExit:
            log.append("ended")
            raise
        finally:
            log.append("cleaned up")

    def thread():
        greenlet = spawn(run)
        sleep(0)
        greenlet.kill(block=False)
        sleep(0)
        assert not greenlet.ready()

    other = threading.Thread(target=thread)
    other.start()
    other.join()
    assert log == ["ended", "cleaned up"]


def test_a_hub_that_is_destroyed_does_not_end_the_shield():
    log = []

    def thread():
        try:
            with shield():
                spawn(kill, getcurrent(), Stop)
                sleep(0.01)
                greenloop.get_hub().destroy(destroy_loop=True)
                sleep(0)
                log.append("over")
        except Stop:
            log.append("stopped")

    other = threading.Thread(target=thread)
    other.start()
    other.join()
    assert log == ["over", "stopped"]


def test_leaving_a_block_by_return_does_not_pass_by_what_was_held_back():
    def run():
        with shield():
            sleep(0.01)
            return "not returned"

    greenlet = spawn(run)
    sleep(0)
    greenlet.kill(Stop)
    assert isinstance(greenlet.exception, Stop)
    assert greenlet.value is None


def test_left_for_good():
    """A greenlet that never ends its shield takes what was held back with it."""

    class Marked(Exception):
        pass

    def run():
        shield().__enter__()
        sleep(0.01)

    greenlet = spawn(run)
    sleep(0)
    error = Marked()
    greenlet.kill(error)
    assert greenlet.successful()
    error_alive = weakref.ref(error)
    del error, greenlet
    # The next thing to be held back sweeps.
    with pytest.raises(Stop), shield():
        kill(getcurrent(), Stop)
        sleep(0)
    sleep(0)
    gc.collect()
    assert error_alive() is None
