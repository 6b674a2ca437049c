"""The modules util, core and config, and the package's own attributes."""

import re

import gevent
import pytest
from gevent import core, util


def test_every_public_name_exists():
    for name in gevent.__all__:
        assert hasattr(gevent, name)
    assert gevent.signal_handler is gevent.hub.signal
    assert gevent.event.Event
    assert gevent.timeout.Timeout is gevent.Timeout
    assert gevent.os.fork is gevent.fork


def test_the_version_is_one_that_libraries_accept():
    numbers = tuple(map(int, re.match(r"(\d+)\.(\d+)\.(\d+)", gevent.__version__).groups()))
    assert numbers >= (24, 10, 1)
    assert gevent.version_info._fields == ("major", "minor", "micro", "releaselevel", "serial")


def test_switch_interval_can_be_read_and_set():
    before = gevent.getswitchinterval()
    try:
        gevent.setswitchinterval(0.02)
        assert gevent.getswitchinterval() == pytest.approx(0.02)
    finally:
        gevent.setswitchinterval(before)


def test_resolver_setting_is_a_class():
    assert isinstance(gevent.config.resolver, type)


def test_a_setting_is_read_from_the_environment(run_script):
    result = run_script(
        """
        import gevent

        print(gevent.config.format_context is ascii)
        """,
        env={"GEVENT_FORMAT_CONTEXT": "builtins.ascii"},
    )
    assert result.check_quiet() == "True\n"


def test_a_setting_that_cannot_be_imported_is_an_error(run_script):
    result = run_script(
        """
        import gevent

        try:
            gevent.config.resolver
        except ImportError as error:
            print("nowhere" in str(error))
        """,
        env={"GEVENT_RESOLVER": "nowhere.Resolver"},
    )
    assert result.check_quiet() == "True\n"


def test_core_names_what_watchers_are_made_with():
    loop = gevent.get_hub().loop
    assert isinstance(loop, core.loop)
    assert isinstance(loop.timer(1), core.timer)
    assert isinstance(loop.io(0, core.READ), core.io)
    both = core.READ | core.WRITE
    assert loop.io(0, both).events & both == both
    assert isinstance(loop.async_(), core.async_)
    assert isinstance(loop.run_callback(len, ""), core.callback)
    gevent.sleep(0)
    assert set(core.recommended_backends()) <= set(core.supported_backends())
    assert core.get_version()


def test_wrap_errors_returns_the_errors_it_was_given():
    wrapped = util.wrap_errors((ValueError, TypeError), int)
    assert wrapped("5") == 5
    assert isinstance(wrapped("x"), ValueError)
    assert isinstance(wrapped(None), TypeError)
    with pytest.raises(ZeroDivisionError):
        util.wrap_errors(ValueError, lambda: 1 / 0)()
    assert str(wrapped) == str(int)
    assert wrapped.__name__ == "int"


def test_assert_switches():
    with util.assert_switches():
        gevent.sleep(0.001)
    with pytest.raises(AssertionError), util.assert_switches():
        pass
    with pytest.raises(ValueError, match="passed on"), util.assert_switches():
        raise ValueError("passed on")
    with util.assert_switches(max_blocking_time=30):
        gevent.sleep(0.001)


def waits_here():
    gevent.sleep(100)


def test_run_info_names_greenlets_and_where_they_wait(capsys):
    g = gevent.spawn(waits_here)
    gevent.sleep(0)
    text = "\n".join(util.format_run_info())
    g.kill()
    assert f"{id(g):x}" in text.lower()
    assert "in waits_here" in text
    util.print_run_info()
    assert "Threads" in capsys.readouterr().err
