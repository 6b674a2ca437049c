"""util.GreenletTree, format_run_info, assert_switches: what they show and what they find."""

import io
import os
import re
import threading
import time

import gevent
import pytest
from gevent import util
from gevent.local import local
from greenlet import getcurrent, gettrace, greenlet, settrace

PEER = os.environ.get("GREENLOOP_TEST_PEER") == "1"

native_sleep = time.sleep


class Named(local):
    def __init__(self, value):
        self.value = value


def nothing():
    pass


def waits_for_long():
    gevent.sleep(60)


def lines_of(tree, **details):
    options = {"running_stacks": False, "spawning_stacks": False}
    return [re.sub("0x[0-9a-f]+", "X", line) for line in tree.format_lines(options | details)]


def subtree(root):
    """The tree of one greenlet, as part of those of this thread."""
    found = []
    pending = [util.GreenletTree.current_tree()]
    while pending:
        tree = pending.pop()
        if tree.greenlet is root:
            found.append(tree)
        pending += tree.child_trees
    (tree,) = found
    return tree


def test_the_current_tree_begins_with_the_main_greenlet():
    tree = util.GreenletTree.current_tree()
    assert tree.is_current_tree
    assert tree.root
    assert tree.greenlet is getcurrent()
    assert tree.parent is None
    assert [one.is_current_tree for one in util.GreenletTree.forest()].count(True) == 1


def test_who_spawned_whom():
    def child():
        return gevent.spawn(nothing)

    def parent():
        one, two = gevent.spawn(child), gevent.spawn(child)
        _ = one.minimal_ident, two.minimal_ident
        gevent.joinall([one, two])
        return one, two

    g = gevent.spawn(parent)
    g.join()
    tree = subtree(g)
    assert not tree.root
    assert {one.greenlet for one in tree.child_trees} == set(g.value)
    assert [one.greenlet for two in g.value for one in subtree(two).child_trees] == [
        two.value for two in g.value
    ]


def test_the_shape_of_the_lines():
    def leaf():
        raise ValueError("leaf")

    def child():
        getcurrent().spawn_tree_locals["key"] = "value"
        return gevent.spawn(leaf)

    def parent():
        mine = Named(1)
        one = gevent.spawn(child)
        one.name = "one"
        two = gevent.spawn(child)
        two.name = "two"
        _ = one.minimal_ident, two.minimal_ident
        gevent.joinall([one, two])
        gevent.joinall([one.value, two.value])
        return mine, one, two

    g = gevent.spawn(parent)
    str(g)
    g.join()
    one, two = g.value[1:]
    for g_ in (g, one, two, one.value, two.value):
        str(g_)
    lines = lines_of(subtree(g))
    # What the hub's text says of its threads may change at any time.
    fixed = [re.sub("<Hub .* thread_ident=X>", "<HUB>", line) for line in lines]
    fixed = [re.sub(r'"Greenlet-\d+" ', "", line) for line in fixed]
    assert fixed[0].startswith("<Greenlet at X: ")
    assert "; finished with value (<" in fixed[0]
    assert fixed[1] == " :    Parent: <HUB>"
    assert " :    Spawn Tree Locals" in fixed
    assert " :    {'key': 'value'}" in fixed
    assert " :    Greenlet Locals:" in fixed
    start = next(i for i, line in enumerate(fixed) if line.startswith(" +---"))
    rest = [re.sub(r": [^;]*; finished", ": CALL; finished", line) for line in fixed[start:]]
    rest = [re.sub(r" with value .*", " with value VALUE", line) for line in rest]
    assert rest == [
        ' +--- <Greenlet "one" at X: CALL; finished with value VALUE',
        " :          Parent: <HUB>",
        " |    +--- <Greenlet at X: CALL; finished with exception ValueError('leaf')",
        " :                Parent: <HUB>",
        ' +--- <Greenlet "two" at X: CALL; finished with value VALUE',
        "            Parent: <HUB>",
        "      +--- <Greenlet at X: CALL; finished with exception ValueError('leaf')",
        "                  Parent: <HUB>",
    ]


def test_without_details_there_are_names_only():
    def parent():
        return gevent.spawn(nothing)

    g = gevent.spawn(parent)
    g.join()
    tree = subtree(g)
    tree.format()  # gives numbers to greenlets
    assert str(tree) == tree.format(False)
    assert len(str(tree).splitlines()) == 2
    assert "Parent" not in str(tree)
    assert "Parent" in tree.format()


def test_stacks_are_shown():
    g = gevent.spawn(waits_for_long)
    gevent.sleep(0)
    text = subtree(g).format()
    assert "Running:" in text
    assert "in waits_for_long" in text
    assert "Spawned at:" in text
    assert "in test_stacks_are_shown" in text
    assert "Running:" not in subtree(g).format({"running_stacks": False})
    assert "Spawned at:" not in subtree(g).format({"spawning_stacks": False})
    limited = subtree(g).format({"running_stack_limit": 1, "spawning_stacks": False})
    assert limited.count("File ") == 1
    g.kill()


def test_raw_greenlets_are_shown():
    raw = greenlet(lambda: getcurrent().parent.switch())
    assert "; not running" in subtree(raw).format(False)
    raw.switch()
    assert "; not running" not in subtree(raw).format(False)
    raw.switch()


def test_ignored_greenlets_and_roots_of_the_programs_own():
    def outer():
        inner = greenlet(util.GreenletTree.current_tree)
        getcurrent().greenlet_tree_is_ignored = True
        inner.greenlet_tree_is_root = True
        return inner, inner.switch()

    inner, tree = greenlet(outer).switch()
    assert tree.greenlet is inner
    assert tree.child_trees == []


def test_attributes_of_locals_are_shown_and_none_are_made():
    mine = Named("of the main greenlet")
    counted = []

    class Counting(local):
        def __init__(self):
            counted.append(getcurrent())

    other = Counting()

    def look():
        return util.GreenletTree.current_tree().format()

    g = gevent.spawn(look)
    g.join()
    assert "'value': 'of the main greenlet'" in g.value
    assert re.search("Local <class '.*Named'> at 0x", g.value)
    assert counted == [getcurrent()]
    del mine, other


@pytest.mark.skipif(PEER, reason="gevent's is recursive, and gives up")
def test_a_long_chain_of_spawning():
    def spawn_next(left):
        if left:
            gevent.spawn(spawn_next, left - 1).join()
        else:
            found.append(subtree(first).format(False))

    found = []
    first = gevent.spawn(spawn_next, 1500)
    first.join()
    assert len(found[0].splitlines()) == 1501


def test_trees_of_other_threads():
    inside, done = threading.Event(), threading.Event()
    own = []

    def in_thread():
        own.append(gevent.spawn(nothing))
        own.append(getcurrent())
        inside.set()
        done.wait()

    thread = threading.Thread(target=in_thread)
    thread.start()
    inside.wait()
    forest = util.GreenletTree.forest()
    assert {getcurrent(), own[1]} <= {tree.greenlet for tree in forest}
    done.set()
    thread.join()


def test_run_info():
    g = gevent.spawn(waits_for_long)
    g.name = "waits for long"
    gevent.sleep(0)
    lines = util.format_run_info()
    text = "\n".join(lines)
    assert isinstance(lines, list)
    for part in ("* Threads", "* Greenlets", "MainThread", "waits for long"):
        assert part in text
    assert "in waits_for_long\n" in text
    assert "in waits_for_long\n" not in "\n".join(util.format_run_info(greenlet_stacks=False))
    without = "\n".join(util.format_run_info(thread_stacks=False, greenlet_stacks=False))
    assert "stack elided" in without
    assert "Spawned at:" in without
    short = "\n".join(util.format_run_info(limit=1))
    assert short.count("File ") < text.count("File ")
    # Not in one piece: this line is part of what is shown.
    mark = ") (" + "CURRENT)"
    assert mark in text
    assert mark not in "\n".join(util.format_run_info(False, current_thread_ident=1))
    out = io.StringIO()
    util.print_run_info(file=out)
    assert "* Greenlets" in out.getvalue()
    g.kill()


def test_run_info_from_a_signal_handler(run_script):
    script = """
        import os, signal, sys
        import gevent
        from gevent.util import print_run_info

        def waits_here():
            gevent.sleep(60)

        gevent.signal_handler(signal.SIGUSR1, print_run_info, file=sys.stdout)
        g = gevent.spawn(waits_here)
        gevent.sleep(0)
        os.kill(os.getpid(), signal.SIGUSR1)
        gevent.sleep(0.2)
        """
    assert "in waits_here" in run_script(script).check_quiet()


# --- assert_switches


def test_assert_switches_says_what_was_expected():
    expected = r"To any greenlet in \d+\.\d{4} seconds\n"
    with pytest.raises(AssertionError, match=expected) as caught, util.assert_switches():
        native_sleep(0.001)
    assert "Blocked Stack" in str(caught.value)
    expected = r"To the hub .*\(max allowed 0\.0010 seconds\)"
    watch = util.assert_switches(0.001, hub_only=True)
    with pytest.raises(AssertionError, match=expected), watch:
        native_sleep(0.01)


def test_assert_switches_with_a_limit():
    with util.assert_switches(30):
        pass
    with pytest.raises(AssertionError), util.assert_switches(0.01):
        native_sleep(0.1)
    with util.assert_switches(30, hub_only=True):
        gevent.sleep(0.001)
    with pytest.raises(AssertionError), util.assert_switches(0.001, hub_only=True):
        pass


@pytest.mark.skipif(PEER, reason="gevent looks at the time from the start to the last switch")
def test_assert_switches_finds_the_longest_time():
    with pytest.raises(AssertionError), util.assert_switches(0.1):
        gevent.sleep(0)
        native_sleep(0.3)
        gevent.sleep(0)
    with pytest.raises(AssertionError), util.assert_switches(0.1):
        gevent.sleep(0)
        native_sleep(0.3)
    # Waiting for events is no blocking.
    with util.assert_switches(10):
        gevent.sleep(0.01)
    with pytest.raises(AssertionError), util.assert_switches(0.1, hub_only=True):
        gevent.sleep(0)
        native_sleep(0.3)
        gevent.sleep(0)


def test_assert_switches_nested():
    called = []
    settrace(lambda *args: called.append(args))
    before = gettrace()
    try:
        with util.assert_switches() as outer:
            assert gettrace() is outer.tracer
            with util.assert_switches() as inner:
                assert gettrace() is inner.tracer
                assert inner.tracer.previous_trace_function is outer.tracer
                gevent.sleep(0)
            assert gettrace() is outer.tracer
        assert gettrace() is before
        assert called
        with pytest.raises(ZeroDivisionError), util.assert_switches():
            _ = 1 / 0
        assert gettrace() is before
    finally:
        settrace(None)


def test_who_traces_sees_the_hub_between_greenlets():
    """As every wait goes through the hub then, tools can tell who gave way to whom."""
    events = []
    hub = gevent.get_hub()
    names = {hub: "hub"}

    def trace(event, args):
        events.append(tuple(names.get(one, "other") for one in args))

    def worker():
        for _ in range(3):
            gevent.sleep(0)

    workers = [gevent.spawn(worker), gevent.spawn(worker)]
    names.update({workers[0]: "one", workers[1]: "two"})
    settrace(trace)
    try:
        gevent.joinall(workers)
    finally:
        settrace(None)
    for pair in (("one", "two"), ("two", "one")):
        assert pair not in events
    assert ("hub", "one") in events
    assert ("two", "hub") in events


def test_clear_stack_frames():
    done = []

    def in_thread():
        import sys

        util.clear_stack_frames(sys._getframe())
        done.append(True)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert done == [True]


def test_wrap_errors_looks_like_the_function():
    def function():
        """Its text."""

    wrapped = util.wrap_errors(ValueError, function)
    assert wrapped.__doc__ == "Its text."
    assert wrapped.__wrapped__ is function
    assert repr(wrapped) == repr(function)
