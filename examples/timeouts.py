"""Give up on something that takes too long: the forms of Timeout.

python -m greenloop examples/timeouts.py
"""

import gevent
from gevent import Timeout
from gevent.event import AsyncResult

SHORT, LONG = 0.05, 3600.0  # seconds


def raises() -> str:
    """A Timeout is an exception: it ends the block, and says how long it was."""
    try:
        with Timeout(SHORT):
            gevent.sleep(LONG)
    except Timeout as timeout:
        return f"ended after {timeout.seconds} s"
    return "not ended"


def stays_quiet() -> str:
    """With False the block just ends, and what comes after it runs."""
    result = "gave up"
    with Timeout(SHORT, False):
        gevent.sleep(LONG)
        result = "done"
    return result


def own_exception() -> str:
    """It can raise an exception of yours instead."""
    try:
        with Timeout(SHORT, ConnectionError("no answer")):
            gevent.sleep(LONG)
    except ConnectionError as error:
        return str(error)
    return "not ended"


def in_time() -> str:
    """A block that ends in time cancels its timeout."""
    with Timeout(LONG):
        gevent.sleep(SHORT)
    return "in time"


def nested() -> str:
    """The inner block's handler knows its own timeout from the outer one."""
    with Timeout(LONG):
        try:
            with Timeout(SHORT) as inner:
                gevent.sleep(LONG)
        except Timeout as timeout:
            return "the inner one" if timeout is inner else "the outer one"
    return "neither"


def waiting_for_a_result() -> str:
    """Calls that wait take a timeout of their own."""
    answer: AsyncResult = AsyncResult()
    try:
        answer.get(timeout=SHORT)
    except Timeout:
        return "no result yet"
    return "a result"


def whole_call() -> str:
    """with_timeout() bounds one call and may give a value in place of the exception."""
    return gevent.with_timeout(SHORT, gevent.sleep, LONG, timeout_value="the value for lateness")


if __name__ == "__main__":
    for form in (
        raises,
        stays_quiet,
        own_exception,
        in_time,
        nested,
        waiting_for_a_result,
        whole_call,
    ):
        print(f"{form.__name__}: {form()}")
