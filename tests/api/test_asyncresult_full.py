"""AsyncResult: exc_info, links, the names shared with concurrent.futures."""

import sys
import traceback

import gevent
import pytest
from gevent.event import AsyncResult


class Boom(Exception):
    pass


def fail_deep():
    raise Boom("deep")


def test_exc_info_before_and_after():
    result = AsyncResult()
    assert not result.exc_info
    error = Boom()
    result.set_exception(error)
    assert result.exc_info[:2] == (Boom, error)


def test_set_exception_with_exc_info_keeps_the_traceback():
    result = AsyncResult()
    try:
        fail_deep()
    except Boom as error:
        result.set_exception(error, sys.exc_info())
    with pytest.raises(Boom) as caught:
        result.get()
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "fail_deep" in names


def test_as_a_link_target_keeps_the_traceback(capsys):
    result = AsyncResult()
    gevent.spawn(fail_deep).link(result)
    with pytest.raises(Boom) as caught:
        result.get()
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "fail_deep" in names


def test_as_a_link_target_of_another_result():
    first, second = AsyncResult(), AsyncResult()
    first.rawlink(second)
    first.set(5)
    assert second.get() == 5


def test_rawlink_and_unlink():
    result = AsyncResult()
    seen = []
    result.rawlink(seen.append)
    other = []
    result.rawlink(other.append)
    result.unlink(other.append)
    result.set(1)
    assert seen == []
    gevent.sleep(0)
    assert seen == [result]
    assert other == []


def test_rawlink_when_ready_is_called_later():
    result = AsyncResult()
    result.set(1)
    seen = []
    result.rawlink(seen.append)
    assert seen == []
    gevent.sleep(0)
    assert seen == [result]


def test_rawlink_needs_a_callable():
    with pytest.raises(TypeError):
        AsyncResult().rawlink(5)


def test_cancel_is_not_supported():
    result = AsyncResult()
    assert result.cancel() is False
    result.set(1)
    assert result.get() == 1


def test_names_of_futures():
    result = AsyncResult()
    assert not result.done()
    result.set_result(4)
    assert result.done()
    assert result.result() == 4
    assert result.result(timeout=1) == 4
    with pytest.raises(gevent.Timeout):
        AsyncResult().result(timeout=0.001)


def test_str():
    result = AsyncResult()
    assert str(result) == "<AsyncResult unset  _links[0]>"
    result.set(5)
    assert str(result).startswith("<AsyncResult value=5 ")
    failed = AsyncResult()
    failed.set_exception(Boom("x"))
    assert str(failed) == "<AsyncResult value=None exception=Boom('x')  _links[0]>"


def test_can_be_waited_for_with_wait_and_iwait():
    first, second = AsyncResult(), AsyncResult()
    gevent.spawn(second.set, 2)
    assert next(gevent.iwait([first, second])) is second
    gevent.spawn(first.set_exception, Boom())
    assert set(gevent.wait([first, second])) == {first, second}


def test_a_get_inside_a_rawlink_of_a_ready_result_works():
    result = AsyncResult()
    seen = []
    result.rawlink(lambda source: seen.append(source.get()))
    result.set("in the hub")
    gevent.sleep(0)
    assert seen == ["in the hub"]
