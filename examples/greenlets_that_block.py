"""Raw greenlets save no time by themselves: a blocking call blocks them all.

    python -m greenloop examples/greenlets_that_block.py [SECONDS]

Each of two greenlets sleeps twice, SECONDS (1 if not given) at a time, and switches to the other
in between. time.sleep() is not patched here, so the four sleeps follow one another. See
gevent_tasks.py for the same two tasks on the event loop, in half the time.
"""

import sys
import time

from greenlet import greenlet

PAUSE = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
start = time.perf_counter()


def say(text: str) -> None:
    """Print *text* with the number of sleeps that fit into the time so far."""
    print(f"{text} after {int((time.perf_counter() - start) / PAUSE)} pauses")


def task1() -> None:
    say("task 1 started")
    time.sleep(PAUSE)
    say("task 1 gives way")
    greenlet2.switch()
    say("task 1 resumed")
    time.sleep(PAUSE)
    say("task 1 completed")


def task2() -> None:
    say("task 2 started")
    time.sleep(PAUSE)
    say("task 2 gives way")
    greenlet1.switch()
    say("task 2 resumed")
    time.sleep(PAUSE)
    say("task 2 completed")


greenlet1 = greenlet(task1)
greenlet2 = greenlet(task2)

if __name__ == "__main__":
    greenlet1.switch()  # comes back when task 1 has returned
    greenlet2.switch()
    say("both done")
