"""Timeout: start_new, with_timeout, repr, comparison, odd arguments."""

import gevent
import pytest
from gevent import Timeout, with_timeout


class Boom(Exception):
    pass


def test_start_new_starts():
    timeout = Timeout.start_new(0.001)
    assert timeout.pending
    with pytest.raises(Timeout) as caught:
        gevent.sleep(10)
    assert caught.value is timeout
    timeout.close()


def test_start_new_takes_an_exception():
    timeout = Timeout.start_new(0.001, Boom)
    with pytest.raises(Boom):
        gevent.sleep(10)
    timeout.close()


def test_start_new_without_seconds_never_expires():
    timeout = Timeout.start_new()
    assert not timeout.pending
    timeout.cancel()
    timeout.close()


def test_start_new_with_a_timeout_starts_that_one():
    timeout = Timeout(100)
    assert Timeout.start_new(timeout) is timeout
    assert timeout.pending
    assert Timeout.start_new(timeout) is timeout
    timeout.close()


def test_start_new_makes_an_instance_of_the_subclass():
    class Mine(Timeout):
        pass

    timeout = Mine.start_new(100)
    assert type(timeout) is Mine
    timeout.close()


def test_with_on_a_pending_timeout_does_not_start_it_again():
    timeout = Timeout.start_new(0.001)
    with pytest.raises(Timeout) as caught, timeout as entered:
        assert entered is timeout
        gevent.sleep(10)
    assert caught.value is timeout


def test_a_negative_number_expires_like_zero():
    with pytest.raises(Timeout) as caught, Timeout(-1) as timeout:
        gevent.sleep(10)
    assert caught.value is timeout


def test_a_text_is_shown_and_the_timeout_itself_raised():
    with pytest.raises(Timeout) as caught, Timeout(0.001, "while testing") as timeout:
        gevent.sleep(10)
    assert caught.value is timeout
    assert str(timeout) == "0.001 seconds: while testing"


def test_base_exceptions_may_be_given():
    with pytest.raises(KeyboardInterrupt), Timeout(0.001, KeyboardInterrupt):
        gevent.sleep(10)


def test_an_exception_that_cannot_be_raised_is_reported(capsys):
    with Timeout(0.001, 5):
        gevent.sleep(0.02)
    assert "TypeError: exceptions must be classes, or instances, not int" in capsys.readouterr().err


def test_repr_and_str():
    timeout = Timeout(1)
    assert repr(timeout) == f"<Timeout at {hex(id(timeout))} seconds=1>"
    timeout.start()
    assert repr(timeout) == f"<Timeout at {hex(id(timeout))} seconds=1 pending>"
    timeout.close()
    assert repr(timeout) == f"<Timeout at {hex(id(timeout))} seconds=1>"
    assert repr(Timeout(1, False)).endswith(" seconds=1 exception=False>")
    assert repr(Timeout(1, Boom("x"))).endswith(" seconds=1 exception=Boom('x')>")
    assert str(Timeout(1, False)) == "1 second (silent)"
    assert str(Timeout(2, Boom("x"))) == "2 seconds: x"


def test_repr_uses_the_name_of_the_subclass():
    class Mine(Timeout):
        pass

    assert repr(Mine(1)).startswith("<Mine at 0x")


def test_comparison_by_seconds():
    assert Timeout(1) < 2
    assert not Timeout(2) < 2
    assert Timeout(1) < Timeout(2)
    with pytest.raises(TypeError):
        Timeout(1) < "x"  # noqa: B015 - the comparison is what is tested
    assert Timeout(1) != 1


def test_cannot_be_started_after_close():
    timeout = Timeout(1)
    timeout.close()
    with pytest.raises(AssertionError):
        timeout.start()
    assert not timeout.pending


def test_with_timeout_returns_the_result():
    assert with_timeout(10, len, "abc") == 3
    assert with_timeout(None, len, "abc") == 3
    assert with_timeout(10, dict, a=1) == {"a": 1}


def test_with_timeout_raises_timeout():
    with pytest.raises(Timeout) as caught:
        with_timeout(0.001, gevent.sleep, 10)
    assert caught.value.seconds == 0.001


@pytest.mark.parametrize("value", [None, "late", []])
@pytest.mark.parametrize("seconds", [0, 0.001, -1])
def test_with_timeout_returns_the_timeout_value(seconds, value):
    assert with_timeout(seconds, gevent.sleep, 10, timeout_value=value) is value


def test_with_timeout_passes_errors_of_the_function_through():
    with pytest.raises(TypeError):
        with_timeout(10, len, 5, timeout_value="unused")


def test_with_timeout_does_not_take_a_foreign_timeout_for_its_own():
    with pytest.raises(Timeout) as caught, Timeout(0.001) as outer:
        with_timeout(100, gevent.sleep, 10, timeout_value="mine")
    assert caught.value is outer


def test_with_timeout_leaves_no_timeout_behind():
    assert with_timeout(0.005, len, "") == 0
    gevent.sleep(0.02)


def test_with_timeout_nested():
    def inner():
        return with_timeout(0.001, gevent.sleep, 10, timeout_value="inner")

    assert with_timeout(100, inner, timeout_value="outer") == "inner"


def test_subclass_may_override_seconds():
    class Short(Timeout):
        def __init__(self):
            Timeout.__init__(self, 0.001, False)

    with Short():
        gevent.sleep(10)


def test_timeout_module_exports():
    from gevent import timeout

    assert timeout.Timeout is Timeout
    assert timeout.with_timeout is with_timeout
