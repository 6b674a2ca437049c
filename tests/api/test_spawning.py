"""Where greenlets come from: spawning_greenlet, spawning_stack, spawn_tree_locals."""

import functools
import gc
import os
import sys
import traceback

import gevent
import pytest
from greenlet import getcurrent, greenlet

PEER = os.environ.get("GREENLOOP_TEST_PEER") == "1"


def nothing():
    pass


def spawns():
    return gevent.spawn(nothing)  # this line


def deep(depth, make):
    return make() if depth == 0 else deep(depth - 1, make)


def frames(top):
    while top is not None:
        yield top
        top = top.f_back


def test_the_stack_says_where_it_was_spawned():
    g = spawns()
    top = g.spawning_stack
    assert top.f_code is spawns.__code__
    assert top.f_lineno == spawns.__code__.co_firstlineno + 1
    assert top.f_back.f_code is sys._getframe().f_code
    text = "".join(traceback.format_stack(top))
    assert "return gevent.spawn(nothing)  # this line" in text
    assert "in test_the_stack_says_where_it_was_spawned" in text


def test_the_stack_of_one_that_is_made_and_not_started():
    assert gevent.Greenlet(nothing).spawning_stack.f_code is sys._getframe().f_code


@pytest.mark.parametrize("later", [False, True])
def test_lines_of_several_spawned_in_one_frame(later):
    one = gevent.spawn(nothing) if not later else gevent.spawn_later(0, nothing)
    two = gevent.spawn(nothing) if not later else gevent.spawn_later(0, nothing)
    assert two.spawning_stack.f_lineno == one.spawning_stack.f_lineno + 1
    gevent.joinall([one, two])
    # Still known.
    assert two.spawning_stack.f_lineno == one.spawning_stack.f_lineno + 1


def test_the_stack_is_limited():
    assert gevent.Greenlet.spawning_stack_limit == 10
    assert len(list(frames(deep(50, spawns).spawning_stack))) == 10


@pytest.mark.parametrize("limit", [0, 1, 3, 10, 25, 200])
def test_a_subclass_may_choose_the_limit(limit):
    class Limited(gevent.Greenlet):
        spawning_stack_limit = limit

    g = deep(100, lambda: Limited.spawn(nothing))
    found = list(frames(g.spawning_stack))
    assert len(found) == limit or (limit == 200 and 100 < len(found) <= limit)
    if limit >= 3:
        assert [frame.f_code.co_name for frame in found[1:3]] == ["deep", "deep"]


@pytest.mark.skipif(PEER, reason="gevent's class cannot be changed")
def test_the_limit_may_be_changed():
    class Limited(gevent.Greenlet):
        pass

    before = gevent.Greenlet.spawning_stack_limit
    try:
        for limit in (2, 4):
            gevent.Greenlet.spawning_stack_limit = limit
            for kind in (Limited, gevent.Greenlet):
                g = deep(9, functools.partial(kind, nothing))
                assert len(list(frames(g.spawning_stack))) == limit
        gevent.Greenlet.spawning_stack_limit = "many"
        with pytest.raises(TypeError):
            gevent.Greenlet(nothing)
    finally:
        gevent.Greenlet.spawning_stack_limit = before
    assert len(list(frames(deep(20, spawns).spawning_stack))) == before


def test_stacks_through_generators_and_callbacks():
    def generator():
        yield gevent.spawn(nothing)

    class Key:
        def __lt__(self, other):
            self.spawned = gevent.spawn(nothing)
            return False

    (g,) = generator()
    assert g.spawning_stack.f_code.co_name == "generator"
    assert g.spawning_stack.f_back.f_code is sys._getframe().f_code
    keys = [Key(), Key()]
    keys.sort()
    g = next(key for key in keys if hasattr(key, "spawned")).spawned
    assert g.spawning_stack.f_code.co_name == "__lt__"
    assert g.spawning_stack.f_back.f_code is sys._getframe().f_code


def test_the_stack_ends_where_the_greenlet_begins():
    g = gevent.spawn(spawns)
    g.join()
    (only,) = frames(g.value.spawning_stack)
    assert only.f_code is spawns.__code__


def test_code_is_given_back():
    namespace = {"gevent": gevent, "nothing": nothing}
    exec("def temporary():\n    return gevent.spawn(nothing)\n", namespace)
    code = namespace["temporary"].__code__
    spawns().join()
    gc.collect()
    before = sys.getrefcount(code)
    gevent.joinall([namespace["temporary"]() for _ in range(10)])
    spawns().join()
    gc.collect()
    assert sys.getrefcount(code) == before


def test_attributes_cannot_be_assigned():
    g = spawns()
    for name in ("spawning_greenlet", "spawning_stack"):
        with pytest.raises(AttributeError):
            setattr(g, name, None)
    g.join()


def test_who_spawned_it():
    assert spawns().spawning_greenlet() is getcurrent()
    g = gevent.spawn(spawns)
    g.join()
    assert g.value.spawning_greenlet() is g


@pytest.mark.skipif(PEER, reason="gevent's keep each other alive for some time")
def test_who_spawned_it_is_not_kept():
    g = gevent.spawn(spawns)
    g.join()
    child = g.value
    del g
    gc.collect()
    assert child.spawning_greenlet() is None


def test_locals_are_shared_in_a_tree_of_spawning():
    def child():
        getcurrent().spawn_tree_locals["child"] = 1
        return gevent.spawn(nothing), gevent.spawn_raw(nothing)

    one, two = gevent.spawn(child), gevent.spawn(child)
    gevent.joinall([one, two])
    assert one.spawn_tree_locals == two.spawn_tree_locals == {"child": 1}
    assert one.spawn_tree_locals is not two.spawn_tree_locals
    for grandchild in one.value:
        assert grandchild.spawn_tree_locals is one.spawn_tree_locals


@pytest.mark.parametrize("start", [lambda f: greenlet(f).switch(), "hub", "raw"])
def test_locals_of_what_raw_greenlets_spawn(start):
    seen = []

    def spawner():
        seen.append((getcurrent(), gevent.spawn(nothing), gevent.spawn_raw(nothing)))

    if start == "hub":
        gevent.get_hub().loop.run_callback(spawner)
    elif start == "raw":
        gevent.spawn_raw(spawner)
    else:
        start(spawner)
    gevent.sleep(0.01)
    ((me, one, two),) = seen
    assert me.spawn_tree_locals is one.spawn_tree_locals is two.spawn_tree_locals


def test_what_is_spawned_in_the_main_greenlet_shares_nothing():
    assert not hasattr(getcurrent(), "spawn_tree_locals")
    assert spawns().spawn_tree_locals is not spawns().spawn_tree_locals


def test_raw_greenlets_know_where_they_come_from():
    g = gevent.spawn_raw(nothing)
    assert g.loop is gevent.get_hub().loop
    assert g.spawning_greenlet() is getcurrent()
    assert g.spawn_tree_locals == {}
    assert not hasattr(g, "spawning_stack")
    gevent.sleep(0)
    assert g.dead


def test_tracking_can_be_switched_off(run_script):
    script = """
        import gevent

        def nothing():
            pass

        def names(g):
            return [getattr(g, name, None) for name in ATTRIBUTES]

        ATTRIBUTES = ["spawning_greenlet", "spawning_stack", "spawn_tree_locals"]
        print(names(gevent.spawn(nothing)), names(gevent.spawn_raw(nothing)))
        gevent.config.track_greenlet_tree = True
        print(None in names(gevent.spawn(nothing)))
        gevent.config.track_greenlet_tree = False
        print(names(gevent.spawn(nothing)))

        def child():
            return gevent.spawn(nothing)

        g = gevent.spawn(child)
        g.join()
        print(names(g.value))
        """
    out = run_script(script, env={"GEVENT_TRACK_GREENLET_TREE": "off"}).check_quiet()
    none = "[None, None, None]"
    assert out == f"{none} {none}\nFalse\n{none}\n{none}\n"


def test_numbers_of_hubs():
    hub = gevent.get_hub()
    assert hub.minimal_ident > 0
    assert hub.spawning_greenlet is not None
    assert hub.spawn_tree_locals is not None
    registry = hub.ident_registry
    assert registry is hub.ident_registry
    assert isinstance(registry.get_ident(hub), int)


def test_the_name_is_shown_once_it_is_known():
    g = gevent.spawn(spawns)
    assert repr(g) == f"<Greenlet at {hex(id(g))}: spawns>"
    number = g.minimal_ident
    assert repr(g) == f'<Greenlet "Greenlet-{number}" at {hex(id(g))}: spawns>'
    g.join()
    assert repr(g) == f'<Greenlet "Greenlet-{number}" at {hex(id(g))}: spawns>'
