"""How a greenlet begins and ends: a subclass with its own _run, an error, a kill, callbacks.

    python -m greenloop examples/greenlet_lifecycle.py

An error does not leave the greenlet: its traceback is printed to standard error together with
the function's name and arguments, and whoever asks with get() is given it too.
"""

import sys

import gevent
from gevent import Greenlet, GreenletExit
from gevent.event import Event


class Countdown(Greenlet):
    """A greenlet that counts down and returns what it counted from."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start_number = start

    def _run(self) -> int:
        for number in range(self.start_number, 0, -1):
            print(f"countdown {number}")
            gevent.sleep(0)
        return self.start_number


def divide(dividend: int, divisor: int) -> float:
    return dividend / divisor


def wait_for(event: Event) -> str:
    try:
        event.wait()
    except GreenletExit:
        print("asked to end while waiting; tidying up")
        raise
    return "the event came"


def main() -> None:
    countdown = Countdown(3)
    countdown.start()
    print(f"countdown returned {countdown.get()}")

    sys.stderr.write("the report of the error that follows is part of the example\n")
    failing = gevent.spawn(divide, 1, 0)
    failing.link_exception(lambda greenlet: print(f"it failed: {greenlet.exception!r}"))
    failing.join()
    gevent.sleep(0)  # links run on the event loop, after the greenlet has ended
    print(f"successful: {failing.successful()}")
    try:
        failing.get()
    except ZeroDivisionError as error:
        print(f"get() raised: {error}")

    waiting = gevent.spawn(wait_for, Event())
    gevent.sleep(0)
    waiting.kill()
    print(f"killed: dead {waiting.dead}, value {waiting.value!r}")


if __name__ == "__main__":
    main()
