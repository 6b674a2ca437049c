"""What subscribers of gevent.events are told of patching, and what they can change."""

import os

import gevent
import pytest
from gevent import events

PEER = os.environ.get("GREENLOOP_TEST_PEER") == "1"

SUBSCRIBE = """
import gevent.events as events
from gevent import monkey

seen = []
veto = set()

def subscriber(event):
    name = getattr(event, "module_name", type(event).__name__)
    kind = "will" if isinstance(event, events.GeventWillPatchEvent) else "did"
    seen.append((kind, name))
    if kind == "will" and name in veto:
        raise events.DoNotPatch

events.subscribers.append(subscriber)
"""


@pytest.fixture
def patch(run_script):
    """A function that runs a script after subscribing to events."""

    def run(script, **options):
        return run_script(SUBSCRIBE + script, **options).check_quiet()

    return run


def test_order_of_events(patch):
    out = patch("""
monkey.patch_all(time=False, unknown=1)
names = [name for _, name in seen]
print(names[0], *names[-2:])
assert ("will", "socket") in seen and ("did", "socket") in seen
assert seen.index(("will", "socket")) < seen.index(("did", "socket"))
assert seen.index(("will", "_thread")) < seen.index(("did", "threading"))
assert "time" not in names
assert names.count("socket") == 2
""")
    assert out == (
        "GeventWillPatchAllEvent GeventDidPatchBuiltinModulesEvent GeventDidPatchAllEvent\n"
    )


def test_arguments_of_patch_all(patch):
    out = patch("""
all_events = []
events.subscribers.append(all_events.append)
monkey.patch_all(time=False, unknown=1)
first = all_events[0]
print(first.patch_all_arguments["time"], "unknown" in first.patch_all_arguments)
print(first.patch_all_kwargs, first.will_patch_module("time"), first.will_patch_module("os"))
print(first.will_patch_module("nothing"), first.source, first.target)
first.patch_all_arguments.clear()
print(len(first.patch_all_arguments) > 5, "'time': False" in repr(first))
print(all_events[-1].patch_all_kwargs, all_events[-2].patch_all_kwargs)
""")
    assert out == (
        "False False\n{'unknown': 1} False True\nNone None None\nTrue True\n"
        "{'unknown': 1} {'unknown': 1}\n"
    )


def test_a_module_event_names_source_and_target(patch):
    out = patch("""
import time
all_events = []
events.subscribers.append(all_events.append)
monkey.patch_time()
will, did = all_events
print(will.module_name, will.target is time, will.source.__name__.endswith(".time"))
print(will.target_item_names, did.module_name, did.target is time, did.source is will.source)
""")
    assert out == "time True True\n['sleep'] time True True\n"


def test_a_module_can_be_left_alone(patch):
    out = patch("""
import select, time
originals = time.sleep, select.select
veto.update(["time", "select"])
print(monkey.patch_time())
print(monkey.patch_all(thread=False))
print(time.sleep is originals[0], select.select is originals[1])
print(("did", "time") in seen, ("did", "select") in seen, ("did", "selectors") in seen)
print(monkey.is_module_patched("socket"))
""")
    assert out == "None\nTrue\nTrue True\nFalse False True\nTrue\n"


@pytest.mark.parametrize("name", ["_thread", "threading"])
def test_threads_can_be_left_alone(patch, name):
    if PEER and name == "threading":
        pytest.skip("gevent's patching of existing locks fails then")
    out = patch(f"""
import _thread, threading
originals = _thread.start_new_thread, threading.Thread
veto.add({name!r})
monkey.patch_thread()
print(_thread.start_new_thread is originals[0])
thread = threading.Thread(target=print, args=("runs",))
thread.start()
thread.join()
""")
    assert out == f"{name == '_thread'}\nruns\n"


def test_everything_can_be_left_alone(patch):
    out = patch("""
import time
original = time.sleep
veto.add("GeventWillPatchAllEvent")
print(monkey.patch_all())
print(seen, time.sleep is original)
veto.clear()
monkey.patch_time()
print(time.sleep is original)
""")
    assert out == "False\n[('will', 'GeventWillPatchAllEvent')] True\nFalse\n"


def test_names_can_be_taken_out(patch):
    out = patch("""
import os, select

def keep(event):
    if isinstance(event, events.GeventWillPatchModuleEvent) and event.module_name == "select":
        event.target_item_names.remove("select")

events.subscribers.append(keep)
originals = select.select, select.poll
monkey.patch_select()
print(select.select is originals[0], select.poll is originals[1])
print(monkey.is_object_patched("select", "select"))
""")
    assert out == "True False\nFalse\n"


def test_patching_again_tells_nobody(patch):
    out = patch("""
monkey.patch_all()
seen.clear()
monkey.patch_all()
print(seen)
""")
    assert out == "[]\n"


def test_patching_again_tells_of_what_is_new(patch):
    out = patch("""
import warnings
warnings.simplefilter("ignore", monkey.MonkeyPatchWarning)
monkey.patch_all(time=False, dns=False)
seen.clear()
assert monkey.patch_all(os=False, ssl=False, time=False, dns=False, plugin=1) is True
print(seen)
monkey.patch_all(os=False)
print(*[name for kind, name in seen if kind == "will"])
print(monkey.is_object_patched("socket", "getaddrinfo"))
""")
    assert out == "[]\nGeventWillPatchAllEvent time socket\nTrue\n"


def test_modules_of_the_program(patch):
    out = patch("""
import types
target, source = types.ModuleType("their_target"), types.ModuleType("their_source")
source.item = 1
print(monkey.patch_module(target, source, ["item"]), target.item, seen)
veto.add("their_target")
source.item = 2
print(monkey.patch_module(target, source, ["item"]), target.item)
""")
    assert out == ("True 1 [('will', 'their_target'), ('did', 'their_target')]\nFalse 1\n")


def test_an_error_of_a_subscriber_is_passed_on(patch):
    out = patch("""
import time
original = time.sleep

def fails(event):
    raise ValueError("wrong")

events.subscribers.append(fails)
try:
    monkey.patch_time()
except ValueError as error:
    print(error, time.sleep is original)
""")
    assert out == "wrong True\n"


def test_entry_points_are_called(run_script, tmp_path):
    """What is installed for an event is found without being imported by the program."""
    info = tmp_path / "plugins" / "plugin-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[gevent.plugins.monkey.will_patch_module]\nmine = plugin_module:subscriber\n"
        "[gevent.plugins.monkey.did_patch_all]\nmine = plugin_module:done\n"
    )
    (tmp_path / "plugins" / "plugin_module.py").write_text(
        "from gevent import events\n"
        "def subscriber(event):\n"
        "    if event.module_name == 'time':\n"
        "        raise events.DoNotPatch\n"
        "def done(event):\n"
        "    print('done')\n"
    )
    script = """
        import time
        original = time.sleep
        from gevent import monkey

        monkey.patch_all()
        print(time.sleep is original, monkey.is_module_patched("select"))
        """
    path = str(info.parent)
    result = run_script(script, env={"PYTHONPATH": _joined(path)})
    assert result.check_quiet() == "done\nTrue True\n"


def _joined(path):
    return os.pathsep.join(filter(None, [path, os.environ.get("PYTHONPATH")]))


class Event:
    ENTRY_POINT_NAME = "gevent.plugins.no_such_group"


def test_subscribers_are_called_in_order_until_one_fails():
    called = []

    def fails(event):
        raise ValueError

    ours = [called.append, fails, called.append]
    events.subscribers.extend(ours)
    try:
        for notify in (events.notify, events.notify_and_call_entry_points):
            called.clear()
            with pytest.raises(ValueError):
                notify(Event)
            assert called == [Event]
    finally:
        for one in ours:
            events.subscribers.remove(one)


def test_classes_of_events():
    source, target = object(), object()
    event = events.GeventWillPatchModuleEvent("name", source, target, ["item"])
    assert isinstance(event, events.GeventWillPatchEvent)
    assert isinstance(event, events.GeventPatchEvent)
    assert "source=<object" in repr(event)
    assert issubclass(events.DoNotPatch, BaseException)
    assert not issubclass(events.DoNotPatch, Exception)
    blocked = events.EventLoopBlocked(1, 2, ["3"], hub=4)
    assert (blocked.greenlet, blocked.blocking_time, blocked.info, blocked.hub) == (1, 2, ["3"], 4)
    assert events.EventLoopBlocked(1, 2, []).hub is None
    memory = events.MemoryUsageUnderThreshold(1, 2, "info", 4)
    assert (memory.mem_usage, memory.max_allowed, memory.max_memory_usage) == (1, 2, 4)
    assert repr(memory) == "<MemoryUsageUnderThreshold used=1 max=2 details='info'>"
    started = events.PeriodicMonitorThreadStartedEvent("monitor")
    assert started.monitor == "monitor"
    assert all(hasattr(events, name) for name in events.__all__)
    groups = {
        getattr(events, name).ENTRY_POINT_NAME
        for name in events.__all__
        if hasattr(getattr(events, name), "ENTRY_POINT_NAME")
    }
    assert groups == {
        "gevent.plugins.hub.periodic_monitor_thread_started",
        "gevent.plugins.monkey.did_patch_all",
        "gevent.plugins.monkey.did_patch_builtins",
        "gevent.plugins.monkey.did_patch_module",
        "gevent.plugins.monkey.will_patch_all",
        "gevent.plugins.monkey.will_patch_module",
    }


def test_zope_is_used_where_it_is(run_script, tmp_path):
    """Its list of subscribers is ours, and its interfaces know our classes."""
    pytest.importorskip("zope.interface")
    pytest.importorskip("zope.event")
    script = """
        import zope.event
        from gevent import events
        from zope.interface.verify import verifyObject

        print(events.subscribers is zope.event.subscribers, events.notify is zope.event.notify)
        print(verifyObject(events.IEventLoopBlocked, events.EventLoopBlocked(1, 2, [])))
        """
    assert run_script(script).check_quiet() == "True True\nTrue\n"


def test_the_module_is_gevents():
    assert gevent.events is events
