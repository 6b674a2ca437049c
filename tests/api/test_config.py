"""greenloop.config: settings, how they are chosen, and what is refused."""

import os

import gevent
import pytest
from gevent import _config

PEER = os.environ.get("GREENLOOP_TEST_PEER") == "1"

beyond_gevent = pytest.mark.skipif(PEER, reason="what greenloop promises beyond gevent")

#: The settings of gevent.
SETTINGS = [
    "ares_flags",
    "ares_ndots",
    "ares_servers",
    "ares_tcp_port",
    "ares_timeout",
    "ares_tries",
    "ares_udp_port",
    "disable_watch_children",
    "fileobject",
    "format_context",
    "libev_backend",
    "loop",
    "max_blocking_time",
    "max_memory_usage",
    "memory_monitor_period",
    "monitor_thread",
    "print_blocking_reports",
    "resolver",
    "resolver_nameservers",
    "resolver_timeout",
    "threadpool",
    "threadpool_idle_task_timeout",
    "trace_malloc",
    "track_greenlet_tree",
]


@pytest.fixture
def config():
    """Settings that nobody else sees."""
    return _config.Config()


@pytest.fixture
def environment(monkeypatch):
    """The environment, without the variables that settings are read from."""
    for name in os.environ:
        if name.startswith(("GEVENT", "GREENLOOP_")) and name != "GREENLOOP_TEST_PEER":
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_of_gevent_can_be_read(name):
    assert name in dir(gevent.config)
    getattr(gevent.config, name)


def test_defaults(environment, config):
    assert config.max_blocking_time == 0.1
    assert config.memory_monitor_period == 5
    assert config.max_memory_usage is None
    assert config.monitor_thread is False
    assert config.print_blocking_reports is True
    assert config.track_greenlet_tree is True
    assert config.threadpool_idle_task_timeout == 5
    assert config.resolver_nameservers is None


def test_a_value_is_taken_once(environment, config):
    assert config.max_blocking_time == 0.1
    environment.setenv("GEVENT_MAX_BLOCKING_TIME", "7")
    assert config.max_blocking_time == 0.1
    assert _config.Config().max_blocking_time == 7


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("GEVENT_MONITOR_THREAD_ENABLE", "on", "monitor_thread", True),
        ("GEVENT_MONITOR_THREAD_ENABLE", "", "monitor_thread", False),
        ("GEVENT_TRACK_GREENLET_TREE", "No", "track_greenlet_tree", False),
        ("GEVENT_MONITOR_PRINT_BLOCKING_REPORTS", "0", "print_blocking_reports", False),
        ("GEVENT_MAX_BLOCKING_TIME", "0.25", "max_blocking_time", 0.25),
        ("GEVENT_MONITOR_MEMORY_PERIOD", "3", "memory_monitor_period", 3),
        ("GEVENT_MONITOR_MEMORY_MAX", "3kb", "max_memory_usage", 3 << 10),
        ("GEVENT_MONITOR_MEMORY_MAX", "3MB", "max_memory_usage", 3 << 20),
        ("GEVENT_MONITOR_MEMORY_MAX", "3gb", "max_memory_usage", 3 << 30),
        ("GEVENT_MONITOR_MEMORY_MAX", "3", "max_memory_usage", 3),
        ("GEVENT_RESOLVER_NAMESERVERS", "1.1.1.1,8.8.8.8", "resolver_nameservers", None),
        ("GEVENT_RESOLVER_TIMEOUT", "2.5", "resolver_timeout", 2.5),
        ("GEVENT_NOWAITPID", "yes", "disable_watch_children", True),
        ("GEVENTARES_TRIES", "4", "ares_tries", "4"),
        ("GEVENT_BACKEND", "epoll,poll", "libev_backend", ["epoll", "poll"]),
    ],
)
def test_environment_variables(environment, config, variable, text, name, value):
    environment.setenv(variable, text)
    if name == "resolver_nameservers":
        value = text.split(",")
    assert getattr(config, name) == value


@beyond_gevent
def test_variables_of_greenloop_come_first(environment, config):
    environment.setenv("GEVENT_MAX_BLOCKING_TIME", "2")
    environment.setenv("GREENLOOP_MAX_BLOCKING_TIME", "3")
    environment.setenv("GREENLOOP_ARES_TRIES", "4")
    environment.setenv("GREENLOOP_RESOLVER", "")
    environment.setenv("GEVENT_RESOLVER", "block")
    assert config.max_blocking_time == 3
    assert config.ares_tries == "4"
    assert config.resolver.__module__ == "greenloop.resolver.blocking"


@beyond_gevent
def test_a_bad_variable_is_named(environment, config):
    environment.setenv("GEVENT_MONITOR_THREAD_ENABLE", "perhaps")
    with pytest.raises(ValueError, match="perhaps") as caught:
        _ = config.monitor_thread
    assert "GEVENT_MONITOR_THREAD_ENABLE" in "".join(caught.value.__notes__)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("max_blocking_time", "0.5", 0.5),
        ("max_blocking_time", None, None),
        ("max_blocking_time", 0, None),
        ("max_blocking_time", "", None),
        ("max_memory_usage", "5kb", 5120),
        ("max_memory_usage", None, None),
        ("monitor_thread", "TRUE ", True),
        ("monitor_thread", 7, True),
        ("monitor_thread", [], False),
        ("trace_malloc", "3", 3),
        ("libev_backend", "epoll", ["epoll"]),
        ("resolver_nameservers", ["1.1.1.1"], ["1.1.1.1"]),
        ("ares_servers", "1.1.1.1,2.2.2.2", "1.1.1.1,2.2.2.2"),
    ],
)
def test_values_are_converted(config, name, value, kept):
    setattr(config, name, value)
    assert getattr(config, name) == kept
    config.set(name, value)
    assert getattr(config, name) == kept


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("max_blocking_time", -1, ValueError),
        ("max_blocking_time", "soon", ValueError),
        ("max_memory_usage", 0, ValueError),
        ("max_memory_usage", "-3", ValueError),
        ("max_memory_usage", "many", ValueError),
        ("memory_monitor_period", -1, ValueError),
        ("monitor_thread", "perhaps", ValueError),
        ("resolver", "nowhere.Resolver", ImportError),
        ("resolver", "gevent.nothing", ImportError),
        ("resolver", "short", ImportError),
        ("resolver", [], ImportError),
    ],
)
def test_wrong_values_are_refused_and_change_nothing(config, name, value, error):
    before = getattr(config, name)
    with pytest.raises(error):
        setattr(config, name, value)
    assert getattr(config, name) == before


@beyond_gevent
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("loop", None, TypeError),
        ("threadpool", 3, TypeError),
        ("resolver", [None], TypeError),
        ("format_context", "sys.path", TypeError),
        ("max_blocking_time", float("nan"), ValueError),
        ("max_blocking_time", "nan", ValueError),
        ("memory_monitor_period", "0", ValueError),
        ("max_memory_usage", float("nan"), ValueError),
        ("max_memory_usage", float("inf"), ValueError),
        ("track_greenlet_tree", "perhaps", ValueError),
    ],
)
def test_more_values_are_refused(config, name, value, error):
    test_wrong_values_are_refused_and_change_nothing(config, name, value, error)


@beyond_gevent
@pytest.mark.parametrize("way", ["attribute", "set", "setting"])
def test_the_settings_of_the_process_are_heeded_at_once(way):
    def choose(value):
        if way == "attribute":
            gevent.config.track_greenlet_tree = value
        elif way == "set":
            gevent.config.set("track_greenlet_tree", value)
        else:
            gevent.config.settings["track_greenlet_tree"].set(value)

    def is_tracked():
        greenlet = gevent.spawn(int)
        greenlet.join()
        return greenlet.spawn_tree_locals is not None

    assert is_tracked()
    try:
        choose(False)
        assert not is_tracked()
        # Those of others are their own affair.
        _config.Config().track_greenlet_tree = True
        assert not is_tracked()
    finally:
        choose(True)
    assert is_tracked()


@beyond_gevent
def test_threads_may_stay_idle_for_ever(config):
    # gevent documents this value, and refuses it.
    config.threadpool_idle_task_timeout = -1
    assert config.threadpool_idle_task_timeout == -1


def test_unknown_settings_are_refused():
    with pytest.raises(AttributeError, match="no_such_setting"):
        gevent.config.set("no_such_setting", 1)
    with pytest.raises(AttributeError, match="no_such_setting"):
        _ = gevent.config.no_such_setting


@beyond_gevent
def test_unknown_settings_cannot_be_assigned():
    with pytest.raises(AttributeError, match="no_such_setting"):
        gevent.config.no_such_setting = 1


def test_the_first_of_several_names_that_can_be_imported_counts(environment, config):
    environment.setenv("GEVENT_RESOLVER", "nothing,nowhere.Resolver,block,thread")
    assert config.resolver.__module__.partition(".")[2] == "resolver.blocking"
    config.resolver = "gevent.resolver.thread.Resolver"
    assert config.resolver.__module__.partition(".")[2] == "resolver.thread"
    config.resolver = ["nothing", "block"]
    assert config.resolver.__module__.partition(".")[2] == "resolver.blocking"
    config.resolver = dict
    assert config.resolver is dict


def test_a_setting_may_be_the_name_of_an_object(run_script):
    result = run_script(
        """
        import gevent

        gevent.config.format_context = "builtins.ascii"
        print(gevent.config.format_context is ascii)
        gevent.config.format_context = [lambda context: "<what failed>"]
        gevent.spawn(int, "bad").join()
        """
    )
    assert result.stdout == "True\n"
    assert "<what failed> failed with ValueError" in result.stderr


def test_help_tells_of_each_setting(capsys, config):
    config.print_help()
    text = capsys.readouterr().out
    for name, setting in config.settings.items():
        assert f"{name}\n" in text
        assert setting.environment_key in text


@beyond_gevent
def test_every_setting_is_documented():
    for name, setting in gevent.config.settings.items():
        assert setting.desc
        assert all(key in setting.__doc__ for key in setting.environment_keys())
        assert getattr(type(gevent.config), name).__doc__ == setting.__doc__
        assert name in repr(gevent.config)
