"""The resolver whose queries dnspython makes."""

from __future__ import annotations

import gc
import socket as stdlib_socket
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from conftest import GUARD
from dns_server import SERVFAIL, Query, Reply, Server, Zone, reverse_name
from scripts import USE_PEER, RunScript

if USE_PEER:
    pytest.skip("gevent's resolver works otherwise", allow_module_level=True)
pytest.importorskip("dns")

from gevent.resolver import dnspython


@pytest.fixture
def zone() -> Zone:
    made = Zone()
    made.add("www.test", "A", "10.0.0.1", "10.0.0.2")
    made.add("www.test", "AAAA", "2001:db8::1")
    made.add("alias.test", "CNAME", "www.test")
    made.add("big.test", "A", *(f"10.2.0.{number}" for number in range(1, 101)))
    made.add(reverse_name("10.0.0.1"), "PTR", "www.test")
    return made


@pytest.fixture
def server(zone: Zone) -> Iterator[Server]:
    with Server(zone.answer) as made:
        yield made


def asking(server: Server) -> Any:
    resolver = dnspython.Resolver()
    resolver.resolver.nameservers = [server.address]
    resolver.resolver.port = server.port
    return resolver


@pytest.fixture
def resolver(server: Server) -> Any:
    return asking(server)


def until(condition: Callable[[], bool]) -> None:
    with gevent.Timeout(GUARD):
        while not condition():
            gevent.sleep(0.001)


def test_all_look_ups(resolver: Any) -> None:
    assert resolver.gethostbyname("www.test") in ("10.0.0.1", "10.0.0.2")
    name, aliases, addresses = resolver.gethostbyname_ex("alias.test")
    assert (name, aliases) == ("www.test", ["alias.test"])
    assert sorted(addresses) == ["10.0.0.1", "10.0.0.2"]
    found = resolver.getaddrinfo("www.test", 80, 0, stdlib_socket.SOCK_STREAM)
    assert sorted(entry[4] for entry in found) == [
        ("10.0.0.1", 80),
        ("10.0.0.2", 80),
        ("2001:db8::1", 80, 0, 0),
    ]
    assert resolver.gethostbyaddr("10.0.0.1") == ("www.test", [], ["10.0.0.1"])
    assert resolver.getnameinfo(("10.0.0.1", 80), stdlib_socket.NI_NUMERICSERV) == (
        "www.test",
        "80",
    )
    assert resolver.gethostbyname("localhost") == "127.0.0.1"
    assert resolver.gethostbyname("127.0.0.7") == "127.0.0.7"


def test_answers_are_kept(resolver: Any, server: Server) -> None:
    for _ in range(3):
        resolver.gethostbyname("www.test")
    assert server.asked("www.test") == 1
    resolver.close()
    resolver.gethostbyname("www.test")
    assert server.asked("www.test") == 2


def test_long_answers_come_over_tcp(resolver: Any, server: Server) -> None:
    assert len(resolver.gethostbyname_ex("big.test")[2]) == 100
    assert {query.transport for query in server.queries} == {"udp", "tcp"}


def test_failures(resolver: Any, zone: Zone) -> None:
    zone.codes["fails.test"] = SERVFAIL
    for name, number in [
        ("nowhere.test.", stdlib_socket.EAI_NONAME),
        ("fails.test.", stdlib_socket.EAI_AGAIN),
    ]:
        with pytest.raises(stdlib_socket.gaierror) as caught:
            resolver.getaddrinfo(name, 80, stdlib_socket.AF_INET)
        assert caught.value.errno == number


def test_nobody_answers() -> None:
    with Server(lambda query: None) as silent:
        resolver = asking(silent)
        resolver.resolver.lifetime = 0.05
        with pytest.raises(stdlib_socket.gaierror) as caught:
            resolver.getaddrinfo("www.test", 80, stdlib_socket.AF_INET)
        assert caught.value.errno == stdlib_socket.EAI_AGAIN


def test_look_ups_overlap_and_can_be_given_up(zone: Zone) -> None:
    release = threading.Event()

    def answer(query: Query) -> Reply | None:
        assert release.wait(GUARD)
        return zone.answer(query)

    with Server(answer) as server:
        resolver = asking(server)
        resolver.resolver.lifetime = resolver.resolver.timeout = GUARD
        greenlets = [gevent.spawn(resolver.gethostbyname, "www.test") for _ in range(20)]
        until(lambda: server.asked("www.test") == 20)
        gevent.killall(greenlets[:10], timeout=GUARD)
        with gevent.Timeout(0.01, False):
            resolver.getaddrinfo("www.test", 80)
        release.set()
        gevent.joinall(greenlets, timeout=GUARD)
    assert all(isinstance(one.value, gevent.GreenletExit) for one in greenlets[:10])
    assert {one.value for one in greenlets[10:]} <= {"10.0.0.1", "10.0.0.2"}


def test_a_resolver_is_freed() -> None:
    one = dnspython.Resolver()
    one.gethostbyname("localhost")
    alive = weakref.ref(one)
    del one
    gc.collect()
    assert alive() is None


def test_settings(monkeypatch: Any) -> None:
    monkeypatch.setattr(gevent.config, "resolver_nameservers", ["10.0.0.7"])
    monkeypatch.setattr(gevent.config, "resolver_timeout", 7.0)
    resolver = dnspython.Resolver()
    assert resolver.resolver.nameservers == ["10.0.0.7"]
    assert resolver.resolver.lifetime == 7.0


def test_dnspython_itself_is_not_changed(run_script: RunScript) -> None:
    script = """\
import dns.query, socket, time, threading, selectors
before = [dns.query.socket, dns.query.time, dns.query.selectors, dns.query.socket.socket]
import gevent
import gevent.resolver.dnspython as ours
ours.Resolver().gethostbyname("localhost")
after = [dns.query.socket, dns.query.time, dns.query.selectors, dns.query.socket.socket]
assert before == after == [socket, time, selectors, socket.socket]
print(socket.socket.__module__)
"""
    assert run_script(script).check_quiet() == "socket\n"
