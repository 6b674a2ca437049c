"""Profilers and monitors that are started or stopped while greenlets are suspended."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from scripts import RunScript

SCRIPT = """
import sys
from greenlet import greenlet, getcurrent

main = getcurrent()
events = []


def inner():
    main.switch("parked")
    raise KeyError("out of what was suspended")


def outer():
    inner()


def generator():
    yield main.switch("parked")
    raise KeyError("out of a generator")


def consume():
    for _ in generator():
        pass


def profiled():
    events.append("on")


def profile(frame, event, arg):
    events.append(event)


{start}

parked = [greenlet(body) for body in (outer, outer, consume)]
for g in parked:
    assert g.switch() == "parked"
beginner = greenlet(start)
beginner.switch()
for g in parked:
    try:
        g.switch()
    except KeyError as error:
        events.append(str(error))
profiled()
assert events.count("'out of what was suspended'") == 2, events
assert events.count("'out of a generator'") == 1, events
stop()
"""

STARTS = {
    "setprofile": """
def start():
    sys.setprofile(profile)

def stop():
    sys.setprofile(None)
    assert "return" in events
""",
    "settrace": """
def start():
    sys.settrace(lambda *args: events.append(args[1]))

def stop():
    sys.settrace(None)
    assert "call" in events
""",
    "cProfile": """
import cProfile, pstats
profiler = cProfile.Profile()

def start():
    profiler.enable()

def stop():
    profiler.disable()
    names = {name for _, _, name in pstats.Stats(profiler).stats}
    assert "profiled" in names, names
""",
    "monitoring": """
def start():
    tool, monitoring = 4, sys.monitoring
    monitoring.use_tool_id(tool, "test")
    seen = monitoring.events
    for event in (seen.PY_UNWIND, seen.RAISE, seen.PY_RETURN, seen.PY_YIELD, seen.LINE):
        monitoring.register_callback(tool, event, lambda *args: events.append("event"))
    monitoring.set_events(
        tool, seen.PY_UNWIND | seen.RAISE | seen.PY_RETURN | seen.PY_YIELD | seen.LINE
    )

def stop():
    sys.monitoring.set_events(4, 0)
    assert "event" in events
""",
}


@pytest.mark.parametrize("name", list(STARTS))
def test_exceptions_leave_what_was_suspended_before(run_script: RunScript, name: str) -> None:
    if name == "monitoring" and sys.version_info < (3, 12):
        pytest.skip("sys.monitoring came with Python 3.12")
    run_script(SCRIPT.format(start=STARTS[name])).check_quiet()
