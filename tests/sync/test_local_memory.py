"""local: which greenlet's values live how long, native threads, use while it is made."""

import gc
import threading
import weakref

import gevent
import greenlet
import pytest
from gevent.local import local


class Payload:
    pass


def test_values_of_a_raw_greenlet_die_with_it():
    data = local()
    refs = []

    def function():
        data.payload = Payload()
        refs.append(weakref.ref(data.payload))
        greenlet.getcurrent().parent.switch()

    finished = greenlet.greenlet(function)
    finished.switch()
    finished.switch()
    assert refs[0]() is not None
    del finished
    gc.collect()
    assert refs[0]() is None

    suspended = greenlet.greenlet(function)
    suspended.switch()
    assert refs[1]() is not None
    del suspended
    gc.collect()
    assert refs[1]() is None


def test_a_new_greenlet_does_not_see_the_values_of_one_at_the_same_address():
    data = local()
    for i in range(2000):
        seen = []

        def function(i=i, seen=seen):
            seen.append(hasattr(data, "x"))
            data.x = i

        greenlet.greenlet(function).switch()
        assert seen == [False]


def test_values_of_finished_greenlets_that_are_kept_do_not_pile_up():
    data = local()
    alive = weakref.WeakSet()

    def function():
        data.payload = Payload()
        alive.add(data.payload)

    greenlets = [gevent.spawn(function) for _ in range(1000)]
    gevent.joinall(greenlets)
    greenlets += [gevent.spawn(function) for _ in range(1000)]
    gevent.joinall(greenlets)
    gc.collect()
    assert len(alive) < 1500


def test_values_of_a_greenlet_that_is_garbage_together_with_the_local():
    def make():
        data = local()
        worker = gevent.spawn(setattr, data, "payload", Payload())
        worker.join()
        data.cycle = [data, worker]
        worker.local = data
        return weakref.ref(data), weakref.ref(worker)

    refs = make()
    gevent.sleep(0)
    gc.collect()
    assert [ref() for ref in refs] == [None, None]


def test_values_of_a_thread_die_with_it():
    data = local()
    refs = []

    def function():
        data.payload = Payload()
        refs.append(weakref.ref(data.payload))

    thread = threading.Thread(target=function)
    thread.start()
    thread.join()
    gc.collect()
    assert refs[0]() is None
    assert not hasattr(data, "payload")


def test_each_native_thread_has_its_own():
    data = local()
    data.x = "main"
    seen = []
    thread = threading.Thread(target=lambda: seen.append(hasattr(data, "x")))
    thread.start()
    thread.join()
    assert seen == [False]


def test_init_that_switches():
    class Mine(local):
        def __init__(self):
            gevent.sleep(0)
            self.owner = gevent.getcurrent()

    data = Mine()
    workers = [gevent.spawn(lambda: data.owner is gevent.getcurrent()) for _ in range(10)]
    gevent.joinall(workers)
    assert all(worker.value for worker in workers)


def test_init_that_fails_is_called_again():
    calls = []

    class Mine(local):
        def __init__(self):
            calls.append(1)
            if len(calls) == 2:
                raise ValueError("second call")
            self.x = 1

    data = Mine()

    def function():
        with pytest.raises(ValueError):
            _ = data.x
        return data.x

    assert gevent.spawn(function).get() == 1
    assert len(calls) == 3


def test_a_value_whose_finalizer_uses_the_local():
    data = local()
    log = []

    class Finalized:
        def __del__(self):
            log.append(hasattr(data, "payload"))

    def function():
        data.payload = Finalized()

    gevent.spawn(function).join()
    gc.collect()
    assert log == [False]
    data.payload = Finalized()
    del data.payload
    assert log == [False, False]


def test_slots_and_dict_of_a_subclass():
    class Mine(local):
        __slots__ = ("__dict__", "shared")

    data = Mine()
    data.shared = 1
    data.own = 2
    assert data.__dict__ == {"own": 2}
    assert gevent.spawn(lambda: (data.shared, data.__dict__)).get() == (1, {})


def test_data_descriptors_go_before_values():
    class Descriptor:
        def __get__(self, instance, owner):
            return "descriptor" if instance is not None else self

        def __set__(self, instance, value):
            instance.__dict__["d"] = value

    class Mine(local):
        d = Descriptor()

    data = Mine()
    data.d = 5
    assert data.d == "descriptor"
    assert data.__dict__ == {"d": 5}
    assert Mine.d.__class__ is Descriptor
