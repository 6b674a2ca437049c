"""greenloop.config, where gevent's takes anything."""

import os

import gevent
import pytest

pytestmark = pytest.mark.skipif(
    os.environ.get("GREENLOOP_TEST_PEER") == "1", reason="what greenloop promises beyond gevent"
)


def test_unknown_settings_are_refused():
    with pytest.raises(AttributeError, match="no_such_setting"):
        gevent.config.no_such_setting = 1
    with pytest.raises(AttributeError):
        _ = gevent.config.no_such_setting


def test_settings_of_gevent_that_mean_nothing_here_are_told():
    with pytest.warns(RuntimeWarning, match="max_blocking_time"):
        gevent.config.max_blocking_time = 1


def test_a_setting_may_be_the_name_of_an_object(run_script):
    result = run_script(
        """
        import gevent

        gevent.config.format_context = "builtins.ascii"
        print(gevent.config.format_context is ascii)
        gevent.config.format_context = lambda context: "<what failed>"
        gevent.spawn(int, "bad").join()
        """
    )
    assert result.stdout == "True\n"
    assert "<what failed> failed with ValueError" in result.stderr


def test_the_first_of_several_names_that_can_be_imported_counts(run_script):
    result = run_script(
        """
        import gevent

        print(gevent.config.resolver.__module__.partition(".")[2])
        """,
        env={"GEVENT_RESOLVER": "ares,nowhere.Resolver,block,thread"},
    )
    assert result.check_quiet() == "resolver.blocking\n"


def test_every_setting_is_documented():
    from greenloop import _config

    assert _config.settings(gevent.config)
    assert all(_config.settings(gevent.config).values())
    assert all(name in repr(gevent.config) for name in _config.settings(gevent.config))
