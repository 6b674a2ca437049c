"""The native thread that looks after a hub."""

import os

import pytest

PEER = os.environ.get("GREENLOOP_TEST_PEER") == "1"

beyond_gevent = pytest.mark.skipif(PEER, reason="what greenloop promises beyond gevent")

BEGIN = """
import sys
import time

import gevent
from gevent import config, events
from gevent.monkey import get_original

native_sleep = get_original("time", "sleep")
config.monitor_thread = True
config.max_blocking_time = 0.05
seen = []
events.subscribers.append(seen.append)

def blocked():
    return [event for event in seen if isinstance(event, events.EventLoopBlocked)]

def until(condition):
    "Wait cooperatively."
    while not condition():
        gevent.sleep(0.01)

def block():
    "Keep others from running until that has been seen."
    seen.clear()
    limit = time.monotonic() + 30
    # What is seen first may be another one, which has kept this one from running.
    me = gevent.getcurrent()
    while not any(event.greenlet is me for event in blocked()) and time.monotonic() < limit:
        native_sleep(0.01)

hub = gevent.get_hub()
gevent.sleep(0.01)
monitor = hub.periodic_monitoring_thread
"""


@pytest.fixture
def run(run_script):
    """A function that runs a script in which the monitor thread runs; returns its output."""

    def run(script, **options):
        return run_script(BEGIN + script, **options)

    return run


def test_off_unless_asked_for(run_script):
    script = """
        import gevent

        gevent.sleep(0.01)
        hub = gevent.get_hub()
        print(hub.periodic_monitoring_thread, hub.start_periodic_monitoring_thread())
        """
    assert run_script(script).check_quiet() == "None None\n"


def test_it_starts_with_the_hub(run):
    result = run("""
print(monitor is hub.start_periodic_monitoring_thread(), monitor.hub is hub)
print([type(event).__name__ for event in seen], seen[0].monitor is monitor)
""")
    assert result.check_quiet() == "True True\n['PeriodicMonitorThreadStartedEvent'] True\n"


def test_it_can_be_asked_for_in_the_environment(run_script):
    script = """
        import gevent

        gevent.sleep(0.01)
        print(type(gevent.get_hub().periodic_monitoring_thread).__name__)
        """
    out = run_script(script, env={"GEVENT_MONITOR_THREAD_ENABLE": "1"}).check_quiet()
    assert out == "PeriodicMonitoringThread\n"


def test_a_greenlet_that_blocks_is_reported(run):
    result = run("""
g = gevent.spawn(block)
g.join()
event = blocked()[0]
print(event.greenlet is g, event.hub is hub, event.blocking_time)
text = "\\n".join(event.info)
print("appears to be blocked" in text, "in block\\n" in text, "native_sleep(0.01)" in text)
""")
    assert result.check() == "True True 0.05\nTrue True True\n"
    assert "appears to be blocked" in result.stderr
    assert "native_sleep(0.01)" in result.stderr


def test_the_main_greenlet_is_reported(run):
    result = run("""
block()
print(blocked()[0].greenlet is gevent.getcurrent())
""")
    assert result.check() == "True\n"


def test_reports_may_be_changed_by_subscribers(run):
    result = run("""
def change(event):
    if isinstance(event, events.EventLoopBlocked):
        event.info[:] = ["a short report"]

events.subscribers.insert(0, change)
block()
""")
    result.check()
    assert set(result.stderr.splitlines()) == {"a short report"}


def test_reports_need_not_be_printed(run):
    result = run("""
config.print_blocking_reports = False
block()
print(len(blocked()) > 0)
""")
    assert result.check_quiet() == "True\n"


def test_who_gives_way_is_not_reported(run):
    result = run("""
config.max_blocking_time = 5

def busy():
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        gevent.sleep(0)

gevent.joinall([gevent.spawn(busy) for _ in range(3)])
gevent.sleep(0.5)
print(blocked())
""")
    assert result.check_quiet() == "[]\n"


def test_waiting_for_events_is_not_blocking(run):
    result = run("""
gevent.sleep(1)
print(blocked())
""")
    assert result.check_quiet() == "[]\n"


@beyond_gevent
def test_a_callback_of_the_loop_is_reported(run):
    result = run("""
config.print_blocking_reports = False
hub.loop.run_callback(block)
gevent.sleep(0.01)
print(blocked()[0].greenlet is hub, any("in block" in line for line in blocked()[0].info))
""")
    assert result.check_quiet() == "True True\n"


@beyond_gevent
def test_switching_past_the_hub_is_blocking(run):
    """Greenlets that only switch to each other keep the hub from running all the same."""
    result = run("""
from greenlet import getcurrent, greenlet

config.print_blocking_reports = False

def other():
    while True:
        main.switch()

def ping_pong():
    seen.clear()
    limit = time.monotonic() + 30
    while not blocked() and time.monotonic() < limit:
        pong.switch()
    print(blocked()[0].greenlet in (getcurrent(), pong))

main = gevent.spawn(ping_pong)
pong = greenlet(other)
main.join()
""")
    assert result.check_quiet() == "True\n"


def test_one_may_be_excused(run):
    result = run("""
config.print_blocking_reports = False

def excused():
    monitor.ignore_current_greenlet_blocking()
    seen.clear()
    native_sleep(0.5)
    print(blocked())
    monitor.monitor_current_greenlet_blocking()
    block()
    print(len(blocked()) > 0)

gevent.spawn(excused).join()
""")
    assert result.check_quiet() == "[]\nTrue\n"


def test_functions_are_called_in_the_thread(run):
    result = run("""
import _thread

calls = []

def function(given):
    calls.append((given is hub, _thread.get_ident() != hub.thread_ident))

monitor.add_monitoring_function(function, 0.01)
until(lambda: len(calls) >= 3)
print(set(calls), len(monitor.monitoring_functions()))
monitor.add_monitoring_function(function, 0.02)
print([entry.period for entry in monitor.monitoring_functions() if entry.function is function])
monitor.add_monitoring_function(function, None)
print(len([e for e in monitor.monitoring_functions() if e.function is function]))
gevent.sleep(0.2)
calls.clear()
gevent.sleep(0.3)
print(calls)
for wrong in ((None, 1), (function, 0), (function, -1)):
    try:
        monitor.add_monitoring_function(*wrong)
    except ValueError:
        print("ValueError")
""")
    lines = result.check_quiet().splitlines()
    assert lines[0].startswith("{(True, True)} ")
    assert lines[1:] == ["[0.02]", "0", "[]", "ValueError", "ValueError", "ValueError"]


@beyond_gevent
def test_a_function_that_fails_is_reported_and_the_others_go_on(run):
    result = run("""
calls = []

def fails(given):
    raise ValueError("wrong")

monitor.add_monitoring_function(fails, 0.05)
monitor.add_monitoring_function(calls.append, 0.01)
until(lambda: len(calls) > 10)
print("goes on")
""")
    assert result.check() == "goes on\n"
    assert "ValueError: wrong" in result.stderr
    assert "PeriodicMonitoringThread" in result.stderr


@beyond_gevent
def test_it_may_be_told_to_look_more_or_less_often(run):
    result = run("""
config.print_blocking_reports = False
config.max_blocking_time = None
gevent.sleep(0.1)
seen.clear()
native_sleep(0.5)
print(blocked())
config.max_blocking_time = 0.01
block()
print(blocked()[0].blocking_time)
""")
    assert result.check_quiet() == "[]\n0.01\n"


def test_a_hub_in_another_thread(run):
    result = run("""
import threading

config.print_blocking_reports = False

def in_thread():
    gevent.sleep(0.01)
    mine = gevent.get_hub()
    block()
    print(any(e.hub is mine and e.greenlet is gevent.getcurrent() for e in blocked()))
    print(mine.periodic_monitoring_thread is not monitor)

thread = threading.Thread(target=in_thread)
thread.start()
while thread.is_alive():
    gevent.sleep(0.01)
""")
    assert result.check_quiet() == "True\nTrue\n"


def test_it_ends_with_the_hub(run):
    result = run("""
def threads():
    return len(sys._current_frames())

def reach(count):
    limit = time.monotonic() + 60
    while threads() != count and time.monotonic() < limit:
        native_sleep(0.01)
    return threads() == count

# The monitor's thread may take a while until the interpreter knows it.
print(reach(2))
hub.destroy()
print(reach(1), monitor.should_run, hub.periodic_monitoring_thread)
""")
    assert result.check_quiet() == "True\nTrue False None\n"


def test_it_ends_with_the_thread(run):
    result = run("""
import threading

monitors = []

def in_thread():
    gevent.sleep(0.01)
    monitors.append(gevent.get_hub().periodic_monitoring_thread)
    if "gevent" in repr(type(gevent.get_hub())):
        gevent.get_hub().destroy()

thread = threading.Thread(target=in_thread)
thread.start()
thread.join()
limit = time.monotonic() + 30
while monitors[0].should_run and time.monotonic() < limit:
    native_sleep(0.01)
print(monitors[0].should_run)
""")
    assert result.check_quiet() == "False\n"


def test_it_does_not_keep_the_loop_running(run):
    result = run("""
try:
    hub.switch()
except gevent.exceptions.LoopExit:
    print("LoopExit")
""")
    assert result.check_quiet() == "LoopExit\n"


@pytest.mark.parametrize("how", ["os.fork()", "gevent.fork()"])
def test_a_forked_child_has_its_own(run, how):
    if PEER and how == "os.fork()":
        pytest.skip("gevent has to be told of forks")
    result = run(
        f"""
import os

config.print_blocking_reports = False
pid = {how}
if pid == 0:
    seen.clear()
    gevent.sleep(0.1)
    g = gevent.spawn(block)
    g.join()
    print(any(event.greenlet is g for event in blocked()), flush=True)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
g = gevent.spawn(block)
g.join()
print(any(event.greenlet is g for event in blocked()))
""",
        options=("-W", "ignore"),
    )
    assert result.check_quiet() == "True\nTrue\n"


@beyond_gevent
def test_a_fork_after_the_end_of_the_loop(run):
    result = run(
        """
import os

hub.loop.destroy()
pid = os.fork()
if pid == 0:
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
os._exit(0)
""",
        options=("-u", "-W", "ignore"),
    )
    assert result.check_quiet() == "0\n"


MEMORY = """
class Info:
    def __init__(self, rss):
        self.rss = rss

class Process:
    rss = 0

    def memory_full_info(self):
        return Info(self.rss)

process = Process()
monitor._get_process = lambda: process

def look(rss):
    process.rss = rss
    event = monitor.monitor_memory_usage(hub)
    if event is None or event == -1:
        print(rss, event)
    else:
        print(rss, type(event).__name__, event.mem_usage, event.max_allowed, event.memory_info.rss,
              getattr(event, "max_memory_usage", None), event is seen[-1])
"""


def test_memory(run):
    result = run(
        MEMORY
        + """
look(100)
config.max_memory_usage = 10
look(5)
for rss in (20, 20, 15, 30, 9, 8, 11):
    look(rss)
"""
    )
    assert result.check_quiet().splitlines() == [
        "100 -1",
        "5 None",
        "20 MemoryUsageThresholdExceeded 20 10 20 None True",
        "20 None",
        "15 None",
        "30 MemoryUsageThresholdExceeded 30 10 30 None True",
        "9 MemoryUsageUnderThreshold 9 10 9 30 True",
        "8 None",
        "11 MemoryUsageThresholdExceeded 11 10 11 None True",
    ]


def test_memory_is_looked_at_in_the_thread(run_script):
    if PEER:
        pytest.importorskip("psutil")
    script = """
        import gevent
        from gevent import config, events

        config.monitor_thread = True
        config.max_memory_usage = "1mb"
        seen = []
        events.subscribers.append(seen.append)
        gevent.sleep(0.01)
        while len(seen) < 2:
            gevent.sleep(0.01)
        event = seen[1]
        print(type(event).__name__, event.mem_usage > event.max_allowed == 1 << 20)
        """
    assert run_script(script).check_quiet() == "MemoryUsageThresholdExceeded True\n"


@beyond_gevent
@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux")
def test_memory_without_psutil(run):
    result = run("""
sys.modules["psutil"] = None
info = monitor._get_process().memory_full_info()
before = info.uss
data = bytearray(64 << 20)
data[::4096] = bytes(len(data[::4096]))
after = monitor._get_process().memory_full_info().uss
print(info.rss >= info.uss > 0, 60 << 20 < after - before < 80 << 20)
del data
""")
    assert result.check_quiet() == "True True\n"


@beyond_gevent
def test_without_any_way_to_know_the_memory(run):
    result = run("""
import warnings

monitor._get_process = lambda: None
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    monitor.install_monitor_memory_usage()
print([warning.category.__name__ for warning in caught])
""")
    assert result.check_quiet() == "['MonitorWarning']\n"
