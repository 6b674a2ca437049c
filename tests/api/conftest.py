"""Fixtures shared by the tests of the gevent-compatible API."""

import contextlib
import os

import gevent
import pytest

# These describe what greenloop promises beyond gevent, so gevent is not held to them.
collect_ignore = (
    ["test_better_than_gevent.py", "test_core_better_than_gevent.py"]
    if os.environ.get("GREENLOOP_TEST_PEER") == "1"
    else []
)


@pytest.fixture
def never_switches():
    """A context in whose body no other greenlet may run."""

    @contextlib.contextmanager
    def guard():
        ran = []
        other = gevent.spawn(ran.append, "switched")
        yield
        assert ran == [], "a call that must not switch let another greenlet run"
        other.join()
        assert ran == ["switched"]

    return guard
