"""Greenlet: names, identities, conditional links, throw, exc_info, trees, contexts."""

import traceback

import gevent
import greenlet
import pytest
from gevent import Greenlet, GreenletExit


class Boom(Exception):
    pass


def fail(*args):
    raise Boom(*args)


def test_name_is_made_from_the_minimal_ident():
    g = Greenlet(len, "")
    assert isinstance(g.minimal_ident, int)
    assert g.minimal_ident >= 0
    assert g.minimal_ident == g.minimal_ident
    assert g.name == f"Greenlet-{g.minimal_ident}"


def test_name_appears_in_repr_once_it_exists():
    g = Greenlet(fail)
    assert '"' not in repr(g)
    name = g.name
    assert f'<Greenlet "{name}" at ' in repr(g)
    g.name = "worker"
    assert g.name == "worker"
    assert f'<Greenlet "worker" at {hex(id(g))}: fail>' == repr(g)


def test_minimal_idents_of_living_greenlets_differ_and_are_reused():
    gs = [Greenlet(len, "") for _ in range(50)]
    idents = {g.minimal_ident for g in gs}
    assert len(idents) == 50
    smallest = min(idents)
    gs.clear()
    del gs
    assert Greenlet(len, "").minimal_ident <= smallest + 50


def test_exc_info():
    g = Greenlet(fail)
    assert not g.exc_info
    ok = gevent.spawn(len, "")
    ok.join()
    assert not ok.exc_info


def test_exc_info_of_a_failure(capsys):
    g = gevent.spawn(fail, "x")
    g.join()
    kind, value, tb = g.exc_info
    assert kind is Boom
    assert value is g.exception
    assert traceback.extract_tb(tb)[-1].name == "fail"


def test_rawlink_is_called_in_the_hub():
    seen = []
    g = gevent.spawn(lambda: 5)
    g.rawlink(lambda source: seen.append((source, gevent.getcurrent())))
    g.join()
    gevent.sleep(0)
    assert seen == [(g, gevent.get_hub())]


def test_rawlink_after_the_end_is_called_later(never_switches):
    seen = []
    g = gevent.spawn(lambda: 5)
    g.join()
    with never_switches():
        g.rawlink(seen.append)
        assert seen == []
    gevent.sleep(0)
    assert seen == [g]


def test_rawlink_needs_a_callable():
    with pytest.raises(TypeError):
        Greenlet(len, "").rawlink(5)


def test_rawlinks_run_in_order_and_a_failing_one_is_reported(capsys):
    seen = []

    def bad(source):
        raise Boom("raw")

    g = gevent.spawn(lambda: 5)
    g.rawlink(lambda source: seen.append(1))
    g.rawlink(bad)
    g.rawlink(lambda source: seen.append(2))
    g.join()
    gevent.sleep(0)
    assert seen == [1, 2]
    err = capsys.readouterr().err
    assert "Boom: raw" in err
    assert "failed with Boom" in err


def test_a_link_may_remove_a_later_link():
    seen = []
    g = gevent.spawn(lambda: 5)

    def first(source):
        seen.append("first")
        source.unlink(second)

    def second(source):
        seen.append("second")

    g.rawlink(first)
    g.rawlink(second)
    g.join()
    gevent.sleep(0)
    assert seen == ["first"]


def test_a_link_may_add_a_link():
    seen = []
    g = gevent.spawn(lambda: 5)
    g.rawlink(lambda source: source.rawlink(seen.append))
    g.join()
    gevent.sleep(0)
    assert seen == [g]


def test_unlink_all_and_has_links():
    seen = []
    g = gevent.spawn(lambda: 5)
    assert not g.has_links()
    g.rawlink(seen.append)
    g.link(seen.append)
    assert g.has_links()
    g.unlink_all()
    assert not g.has_links()
    g.join()
    gevent.sleep(0)
    assert seen == []


def test_link_value_is_called_only_on_success(capsys):
    seen = []
    good = gevent.spawn(lambda: 5)
    bad = gevent.spawn(fail)
    killed = gevent.spawn(gevent.sleep, 100)
    for g in (good, bad, killed):
        g.link_value(seen.append)
    killed.kill(block=False)
    gevent.joinall([good, bad, killed])
    gevent.sleep(0)
    assert set(seen) == {good, killed}


def test_link_exception_is_called_only_on_failure(capsys):
    seen = []
    good = gevent.spawn(lambda: 5)
    bad = gevent.spawn(fail)
    killed = gevent.spawn(gevent.sleep, 100)
    for g in (good, bad, killed):
        g.link_exception(seen.append)
    killed.kill(block=False)
    gevent.joinall([good, bad, killed])
    gevent.sleep(0)
    assert seen == [bad]


def test_links_to_another_greenlets_methods():
    target = gevent.spawn(gevent.sleep, 100)
    gevent.sleep(0)
    source = gevent.spawn(len, "")
    source.link(lambda _: target.kill(block=False))
    target.join()
    assert isinstance(target.value, GreenletExit)


def test_throw_enters_the_greenlet_at_once(capsys):
    log = []

    def function():
        try:
            gevent.sleep(100)
        except Boom:
            log.append("caught")

    g = gevent.spawn(function)
    gevent.sleep(0)
    gevent.get_hub().loop.run_callback(g.throw, Boom)
    gevent.sleep(0)
    assert log == ["caught"]
    assert g.dead


def test_throw_before_start_stores_the_exception(capsys):
    g = Greenlet(len, "")
    g.throw(Boom("early"))
    assert g.dead
    assert g.ready()
    assert isinstance(g.exception, Boom)


def test_throw_before_start_without_arguments_is_greenlet_exit():
    g = gevent.spawn(len, "")
    g.throw()
    assert g.successful()
    assert isinstance(g.value, GreenletExit)
    g.join()


def test_parent_is_the_hub():
    assert Greenlet(len, "").parent is gevent.get_hub()


def test_loop_is_the_hubs():
    assert Greenlet(len, "").loop is gevent.get_hub().loop


def test_spawning_greenlet():
    def spawner():
        return gevent.spawn(len, "")

    parent = gevent.spawn(spawner)
    g = parent.get()
    assert g.spawning_greenlet() is parent
    g.join()


def test_spawn_tree_locals_are_shared_down_the_tree_only():
    def child():
        gevent.getcurrent().spawn_tree_locals["child"] = True

    def root():
        mine = gevent.getcurrent().spawn_tree_locals
        mine["root"] = True
        gevent.spawn(child).join()
        gevent.spawn_raw(child)
        gevent.sleep(0)
        return mine

    first = gevent.spawn(root)
    second = gevent.spawn(root)
    assert first.get() == {"root": True, "child": True}
    assert first.get() is not second.get()


def test_spawn_callbacks():
    seen = []
    Greenlet.add_spawn_callback(seen.append)
    try:
        g = gevent.spawn(len, "")
        later = gevent.spawn_later(0.001, len, "")
        started = Greenlet(len, "")
        started.start()
        gevent.joinall([g, later, started])
    finally:
        Greenlet.remove_spawn_callback(seen.append)
    gevent.spawn(len, "").join()
    assert seen == [g, later, started]


def test_context_manager_joins():
    with gevent.spawn(gevent.sleep, 0.001) as g:
        assert isinstance(g, Greenlet)
        assert not g.ready()
    assert g.ready()
    assert g.successful()


def test_context_manager_kills_when_the_body_raises(capsys):
    with pytest.raises(Boom), gevent.spawn(gevent.sleep, 100) as g:
        gevent.sleep(0)
        raise Boom("body")
    assert g.dead
    assert isinstance(g.exception, Boom)


def test_repr_of_methods_and_callable_objects():
    class Owner:
        def method(self):
            pass

        def __call__(self):
            pass

        def __repr__(self):
            return "<owner>"

    assert "method of <owner>>" in repr(Greenlet(Owner().method))
    assert repr(Greenlet(Owner())).endswith(": <owner>>")
    assert repr(Greenlet(len, [1])).endswith(": <built-in function len>([1])>")


def test_switching_to_a_greenlet_by_hand_runs_it():
    g = Greenlet(lambda: "ran")
    g.start()
    other = gevent.spawn(g.join)
    other.join()
    assert g.value == "ran"


def test_greenlet_class_is_the_modules_class():
    from gevent import greenlet as module

    assert module.Greenlet is gevent.Greenlet
    assert gevent.GreenletExit is greenlet.GreenletExit
    assert gevent.getcurrent is greenlet.getcurrent


def test_kill_with_something_that_cannot_be_raised_is_reported(capsys):
    g = gevent.spawn(gevent.sleep, 100)
    gevent.sleep(0)
    g.kill(5, block=False)
    gevent.sleep(0)
    assert "TypeError: exceptions must be classes, or instances, not int" in capsys.readouterr().err
    assert not g.dead
    g.kill()
    assert g.dead


def test_kill_before_the_start_with_something_that_cannot_be_raised():
    """It must not run."""
    ran = []
    g = gevent.Greenlet(ran.append, 1)
    g.kill(5)
    g.start()
    gevent.sleep(0)
    assert g.dead
    assert not ran
    assert g.exception is not None
    assert not g.successful()
