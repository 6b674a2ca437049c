"""Choosing a resolver, and programs' own ones."""

from __future__ import annotations

import pickle
import socket as stdlib_socket
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from scripts import USE_PEER, RunScript

ours_only = pytest.mark.skipif(USE_PEER, reason="gevent has no such resolver, or class")

CHOSEN = """\
import sys
from gevent import config, get_hub
if len(sys.argv) > 1:
    config.resolver = sys.argv[1]
print(type(get_hub().resolver).__module__)
"""


NAMES = [
    ("thread", "thread"),
    ("block", "blocking"),
    ("native", "native"),
    ("ares", "ares"),
    ("no.such.module.Class, native", "native"),
    ("greenloop.resolver.blocking.Resolver", "blocking"),
]


@pytest.mark.parametrize(("name", "module"), NAMES)
@ours_only
def test_resolvers_are_chosen_by_name(run_script: RunScript, name: str, module: str) -> None:
    expected = f"greenloop.resolver.{module}\n"
    assert run_script(CHOSEN, env={"GREENLOOP_RESOLVER": name}).check_quiet() == expected
    assert run_script(CHOSEN, name, env={"GEVENT_RESOLVER": "thread"}).check_quiet() == expected


@ours_only
def test_the_variable_of_gevent(run_script: RunScript) -> None:
    expected = "greenloop.resolver.native\n"
    assert run_script(CHOSEN, env={"GEVENT_RESOLVER": "native"}).check_quiet() == expected


@ours_only
def test_dnspython_is_chosen_where_it_is_installed(run_script: RunScript) -> None:
    pytest.importorskip("dns")
    expected = "greenloop.resolver.dnspython\n"
    assert run_script(CHOSEN, env={"GREENLOOP_RESOLVER": "dnspython"}).check_quiet() == expected


@ours_only
def test_native_threads_are_the_default(run_script: RunScript) -> None:
    assert run_script(CHOSEN).check_quiet() == "greenloop.resolver.thread\n"


class Fixed:
    """A resolver of a program's own, with all that is needed."""

    closed = 0

    def __init__(self, hub: Any = None) -> None:
        self.hub = hub

    def close(self) -> None:
        Fixed.closed += 1

    def getaddrinfo(self, host, port, family=0, socktype=0, proto=0, flags=0) -> Any:
        return [(2, 1, 6, "", ("10.9.9.9", port))]

    def gethostbyname(self, hostname: str) -> str:
        return "10.9.9.9"

    def gethostbyname_ex(self, hostname: str) -> Any:
        return hostname, [], ["10.9.9.9"]

    def gethostbyaddr(self, ip_address: str) -> Any:
        return "fixed.test", [], [ip_address]

    def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        return "fixed.test", str(sockaddr[1])


@pytest.fixture
def own_hub(monkeypatch: Any) -> Any:
    """The hub, whose resolver is made anew."""
    hub = gevent.get_hub()
    former = hub.resolver
    # Kept by the hub once it has been asked for.
    vars(hub).pop("resolver_class", None)
    del hub.resolver
    yield hub
    vars(hub).pop("resolver_class", None)
    hub.resolver = former


@ours_only
def test_a_class_of_the_programs_own(own_hub: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(gevent.config, "resolver", Fixed)
    assert isinstance(own_hub.resolver, Fixed)
    assert own_hub.resolver.hub is own_hub
    assert socket.getaddrinfo("host.invalid", 80)[0][4] == ("10.9.9.9", 80)
    assert socket.gethostbyname("host.invalid") == "10.9.9.9"
    assert socket.gethostbyname_ex("host.invalid")[2] == ["10.9.9.9"]
    assert socket.gethostbyaddr("10.9.9.9")[0] == "fixed.test"
    assert socket.getnameinfo(("10.9.9.9", 80), 0) == ("fixed.test", "80")
    assert socket.getfqdn("10.9.9.9") == "fixed.test"


@ours_only
def test_a_function(own_hub: Any, monkeypatch: Any) -> None:
    one = Fixed()
    monkeypatch.setattr(gevent.config, "resolver", lambda hub: one)
    assert own_hub.resolver is one


@ours_only
def test_connections_use_it(own_hub: Any, monkeypatch: Any, listener: socket.socket) -> None:
    class Local(Fixed):
        def getaddrinfo(self, host, port, family=0, socktype=0, proto=0, flags=0) -> Any:
            assert host == "anything.invalid"
            return [(2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(gevent.config, "resolver", Local)
    port = listener.getsockname()[1]
    with socket.create_connection(("anything.invalid", port)) as client:
        assert client.getpeername() == ("127.0.0.1", port)
    with socket.socket() as client:
        client.connect(("anything.invalid", port))
        assert client.getpeername() == ("127.0.0.1", port)


@ours_only
def test_the_base_class_needs_getaddrinfo_only() -> None:
    from gevent.resolver import AbstractResolver

    class Numbered(AbstractResolver):
        def getaddrinfo(self, host, port, family=0, socktype=0, proto=0, flags=0) -> Any:
            assert (port, family, socktype) == (None, stdlib_socket.AF_INET, 1)
            return [(2, 1, 6, "real.test", ("10.0.0.1", 0)), (2, 1, 6, "", ("10.0.0.2", 0))]

    resolver = Numbered()
    assert resolver.gethostbyname("host") == "10.0.0.1"
    assert resolver.gethostbyname_ex("host") == ("real.test", [], ["10.0.0.1", "10.0.0.2"])
    with pytest.raises(NotImplementedError, match="Numbered has no gethostbyaddr"):
        resolver.gethostbyaddr("10.0.0.1")
    with pytest.raises(NotImplementedError, match="Numbered has no getnameinfo"):
        resolver.getnameinfo(("10.0.0.1", 80), 0)
    resolver.close()


@ours_only
def test_patched_programs_use_it(run_script: RunScript) -> None:
    script = """\
from gevent import monkey
monkey.patch_all()
import socket, threading
import greenloop.resolver.native as native
calls = []
class Resolver(native.Resolver):
    def getaddrinfo(self, *args):
        calls.append(args[0])
        return super().getaddrinfo(*args)
from gevent import config, get_hub
config.resolver = Resolver
print(socket.getaddrinfo("localhost", 80, socket.AF_INET, socket.SOCK_STREAM)[0][4], calls)
assert get_hub().threadpool.size == 0
"""
    expected = "('127.0.0.1', 80) ['localhost']\n"
    assert run_script(script).check_quiet() == expected


@ours_only
def test_files_of_hosts(tmp_path: Path) -> None:
    from gevent.resolver._hostsfile import HostsFile

    path = tmp_path / "hosts"
    path.write_text("# comment\n10.0.0.1 one two # three\n::1 six\n\nnonsense x\n")
    pairs = list(HostsFile(str(path)).iter_all_host_addr_pairs())
    assert pairs == [("one", "10.0.0.1"), ("two", "10.0.0.1"), ("six", "::1")]
    assert HostsFile().fname == "/etc/hosts"
    with pytest.raises(FileNotFoundError):
        list(HostsFile(str(tmp_path / "none")).iter_all_host_addr_pairs())


@ours_only
def test_former_names() -> None:
    import gevent.ares
    import gevent.resolver.ares
    import gevent.resolver.cares
    import gevent.resolver_ares
    import gevent.resolver_thread

    assert gevent.resolver_ares.Resolver is gevent.resolver.ares.Resolver
    assert gevent.resolver_thread.Resolver is gevent.resolver.thread.Resolver
    result = gevent.ares.ares_host_result(2, ("host", [], ["10.0.0.1"]))
    assert result == ("host", [], ["10.0.0.1"])
    assert result.family == 2
    again = pickle.loads(pickle.dumps(result))
    assert (again, again.family) == (result, 2)
