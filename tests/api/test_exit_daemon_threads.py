"""Daemon threads that are in the middle of something when the interpreter goes down.

Up to 3.13 CPython ends such a thread by unwinding its stack when it next wants the GIL, wherever
that happens.
"""

import os

import pytest

ours_only = pytest.mark.skipif(
    os.environ.get("GREENLOOP_TEST_PEER") == "1", reason="gevent reports errors there, or hangs"
)


DAEMONS = """
    import threading
    import time

    import gevent
    import greenlet

    class Slow(Exception):
        def __init__(self):
            forever()

    class SlowToDie:
        def __del__(self, sleep=time.sleep):
            started.release()
            while True:
                sleep(0.001)

    class SlowToCompare(int):
        def __lt__(self, other):
            forever()

    started = threading.Semaphore(0)

    def forever(*args, **kwargs):
        started.release()
        while True:
            time.sleep(0.001)

    def callback():
        gevent.get_hub().loop.run_callback(forever)
        gevent.sleep(10)

    def timer():
        watcher = gevent.get_hub().loop.timer(0.001)
        watcher.start(forever)
        gevent.sleep(10)

    def thrown():
        g = gevent.spawn(gevent.sleep, 10)
        gevent.sleep(0)
        gevent.kill(g, Slow)

    def raw():
        greenlet.greenlet(forever).switch()

    def raw_with_arguments():
        greenlet.greenlet(forever).switch(1, 2)

    def raw_with_keywords():
        greenlet.greenlet(forever).switch(a=1)

    def nested():
        greenlet.greenlet(lambda: greenlet.greenlet(forever).switch()).switch()

    def task():
        gevent.spawn(forever).join()

    def link():
        gevent.spawn(int).link(forever)
        gevent.sleep(10)

    def finalizer():
        gevent.spawn(SlowToDie).join()

    def comparison():
        from gevent.queue import PriorityQueue

        queue = PriorityQueue(items=[SlowToCompare(1)])
        queue.put(SlowToCompare(0))

    def trace():
        greenlet.settrace(forever)
        greenlet.greenlet(int).switch()

    def waiting():
        started.release()
        gevent.sleep(100)

    def busy():
        def work():
            while True:
                gevent.sleep(0)

        gevent.spawn(work)
        started.release()
        work()

    def pooled():
        gevent.get_hub().threadpool.apply(forever)

    for _ in range(3):
        threading.Thread(target=CASE, daemon=True).start()
    for _ in range(3):
        started.acquire()
    print("end", flush=True)

    # Keeps the interpreter going down for long enough for the threads to want the GIL.
    class Last:
        def __del__(self, sleep=time.sleep):
            sleep(0.05)

    import sys
    sys.modules["last"] = Last()
"""

CASES = [
    "callback",
    "timer",
    "thrown",
    "raw",
    "raw_with_arguments",
    "raw_with_keywords",
    "nested",
    "task",
    "link",
    "finalizer",
    "comparison",
    "trace",
    "waiting",
    "busy",
    "pooled",
]


@ours_only
@pytest.mark.parametrize("case", CASES)
def test_daemon_threads_end_with_the_interpreter(run_script, case):
    result = run_script(DAEMONS.replace("CASE", case))
    assert (result.stdout, result.stderr, result.returncode) == ("end\n", "", 0)


@ours_only
@pytest.mark.parametrize("before", ["gevent.sleep(0)", "gevent.sleep(0.001)", "pass"])
def test_waiting_in_a_finalizer_at_the_very_end(run_script, before):
    """The hub works as long as Python code does."""
    result = run_script(
        f"""
        import sys

        import gevent

        class Last:
            def __del__(self, sleep=gevent.sleep, print=print):
                sleep(0.001)
                print("waited")

        {before}
        sys.modules["last"] = Last()
        """
    )
    assert (result.stdout, result.stderr, result.returncode) == ("waited\n", "", 0)
