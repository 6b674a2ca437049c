"""Timeout: an exception that is raised in a greenlet when its time is over."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from greenloop._core import ThrowTimer, get_hub, getcurrent

__all__ = ["Timeout", "with_timeout"]

_T = TypeVar("_T")
_TimeoutT = TypeVar("_TimeoutT", bound="Timeout")


class Timeout(BaseException):
    """Raises an exception in the greenlet that starts it, when a number of seconds is over.

    ::

        with Timeout(5):
            ...  # Timeout is raised here after 5 seconds

        timeout = Timeout(5)
        timeout.start()
        try:
            ...
        except Timeout as error:
            if error is not timeout:
                raise  # somebody else's
        finally:
            timeout.close()

    It is raised where the greenlet waits: code that does not wait is not interrupted. It derives
    from BaseException, so that ``except Exception`` does not take it for an error.

    seconds: the time in seconds; 0 and less is over at once, None is never over.
    exception: what to raise. None: the Timeout itself. A string: the Timeout itself, and the
        string is part of its text. An exception or exception class: that. False: the Timeout
        itself, which a ``with`` statement then keeps to itself.
    ref: whether the time that has still to pass keeps the loop running.
    priority: taken for compatibility and not used: time-outs happen in the order of their time.

    Raises TypeError if *seconds* is no number, ValueError if it is not a number ("nan").
    (As gevent.Timeout.)
    """

    #: Stands for "no timeout" where a Timeout is started or not, depending on an argument.
    _never: ClassVar[Timeout]

    # Set on an instance only if they become something else: many are made.
    _ref = True
    _closed = False
    _timer: Any = None

    def __init__(
        self,
        seconds: float | None = None,
        exception: BaseException | type[BaseException] | str | bool | None = None,
        ref: bool = True,
        priority: int = -1,
    ) -> None:
        BaseException.__init__(self)
        # The comparison refuses what is no number.
        if seconds is not None and not seconds >= 0 and seconds != seconds:
            raise ValueError("seconds must not be nan")
        self.seconds = seconds
        self.exception = exception
        if not ref:
            self._ref = False

    @property
    def pending(self) -> bool:
        """Whether the exception is still to be raised."""
        timer = self._timer
        if timer is None:
            return False
        # A watcher is pending for the moment of its callback only.
        return bool(timer.pending if type(timer) is ThrowTimer else timer.active)

    def start(self) -> None:
        """Begin to count.

        Raises AssertionError if it has been started and is not over, or if it has been closed.
        """
        timer = self._timer
        if timer is not None and self.pending:
            raise AssertionError(f"{self!r} is already started; to restart it, cancel it first")
        if self._closed:
            raise AssertionError(f"{self!r} is closed; make a new one")
        seconds = self.seconds
        if seconds is None:
            return
        exception = self.exception
        if exception is None or exception is False or isinstance(exception, str):
            exception = self
        if self._ref and isinstance(exception, BaseException):
            if type(timer) is not ThrowTimer:
                timer = self._timer = ThrowTimer()
            timer.start(seconds, getcurrent(), exception)
            return
        # A class: the instance is made when the time is over.
        self._timer = get_hub().loop.timer(seconds, ref=self._ref)
        self._timer.start(_throw, getcurrent(), exception)

    def cancel(self) -> None:
        """Do not raise the exception, if that has not happened. It may be started again."""
        if self._timer is not None:
            self._timer.stop()

    def close(self) -> None:
        """Do not raise the exception, and never be started again."""
        self._closed = True
        if self._timer is not None:
            self._timer.stop()

    @classmethod
    def start_new(
        cls: type[_TimeoutT],
        timeout: float | Timeout | None = None,
        exception: BaseException | type[BaseException] | str | bool | None = None,
        ref: bool = True,
    ) -> _TimeoutT:
        """Make a Timeout and start it.

        timeout: seconds, or a Timeout, which is started unless it is pending, and returned.
        exception, ref: as for Timeout; not used if *timeout* is a Timeout.
        """
        if isinstance(timeout, Timeout):
            if not timeout.pending:
                timeout.start()
            return timeout  # type: ignore[return-value]  # the caller gave it
        new = cls(timeout, exception, ref=ref)
        new.start()
        return new

    @classmethod
    def _start_new_or_dummy(
        cls,
        timeout: float | Timeout | None,
        exception: BaseException | type[BaseException] | str | bool | None = None,
        ref: bool = True,
    ) -> Timeout:
        """Like start_new, but make nothing if *timeout* is None."""
        if timeout is None:
            return Timeout._never
        return cls.start_new(timeout, exception, ref)

    def __enter__(self: _TimeoutT) -> _TimeoutT:
        if self._timer is None or not self.pending:
            self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self.close()
        return value is self and self.exception is False

    def __lt__(self, other: Any) -> bool:
        # Timeouts stand where numbers of seconds can: programs compare them.
        if self.seconds is None:
            return NotImplemented
        if isinstance(other, Timeout):
            return other.seconds is None or self.seconds < other.seconds
        return bool(self.seconds < other)

    def __str__(self) -> str:
        """Say how long, and what for: '1 second', '2 seconds (silent)', '3 seconds: text'."""
        if self.seconds is None:
            return ""
        text = f"{self.seconds} second{'' if self.seconds == 1 else 's'}"
        if self.exception is None:
            return text
        if self.exception is False:
            return f"{text} (silent)"
        return f"{text}: {self.exception}"

    def __repr__(self) -> str:
        pending = " pending" if self.pending else ""
        exception = "" if self.exception is None else f" exception={self.exception!r}"
        return (
            f"<{type(self).__name__} at {id(self):#x} seconds={self.seconds}{pending}{exception}>"
        )


Timeout._never = Timeout(None)


def _throw(greenlet: Any, exception: Any) -> None:
    """Raise what a Timeout was given; called by the hub, which reports what cannot be raised."""
    if not greenlet.dead:
        greenlet.throw(exception)


class _NotGiven:
    """The type of the default of with_timeout's timeout_value."""


_NOT_GIVEN = _NotGiven()


def with_timeout(
    seconds: float | Timeout | None,
    function: Callable[..., _T],
    *args: Any,
    timeout_value: Any = _NOT_GIVEN,
    **kwargs: Any,
) -> _T | Any:
    """Call ``function(*args, **kwargs)`` and stop it after a number of seconds.

    seconds: as for Timeout, or a Timeout.
    timeout_value: what to return if the time is over first.

    Returns what *function* returns, and raises what it raises. Raises Timeout if the time is over
    first and no *timeout_value* is given. (As gevent.with_timeout.)
    """
    timeout = Timeout.start_new(seconds)
    try:
        return function(*args, **kwargs)
    except Timeout as error:
        if error is timeout and timeout_value is not _NOT_GIVEN:
            return timeout_value
        raise
    finally:
        timeout.close()
