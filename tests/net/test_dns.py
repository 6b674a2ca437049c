"""Looking up names."""

from __future__ import annotations

import os
import socket as stdlib_socket
import threading

import gevent
import pytest
from conftest import GUARD
from gevent import socket

PEER = os.environ.get("GREENLOOP_TEST_PEER") == "1"
ours_only = pytest.mark.skipif(PEER, reason="gevent differs from the standard module")

LOOKUPS = [
    ("getaddrinfo", ("127.0.0.1", 80)),
    ("getaddrinfo", ("127.0.0.1", "80", socket.AF_INET, socket.SOCK_STREAM)),
    ("getaddrinfo", ("::1", None)),
    ("getaddrinfo", (None, 80, 0, socket.SOCK_STREAM)),
    ("getaddrinfo", (None, 0, 0, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)),
    ("getaddrinfo", ("127.1", 1, 0, socket.SOCK_DGRAM)),
    ("getaddrinfo", (b"127.0.0.1", 80)),
    ("getaddrinfo", ("localhost", 80, socket.AF_INET)),
    ("getaddrinfo", (b"localhost", None, socket.AF_INET, socket.SOCK_STREAM)),
    ("getaddrinfo", ("localhost", "http", socket.AF_INET, socket.SOCK_STREAM)),
    ("getaddrinfo", ("localhost", 80, 0, 0, 0, socket.AI_CANONNAME)),
    ("gethostbyname", ("127.0.0.1",)),
    ("gethostbyname", ("localhost",)),
    ("gethostbyname", ("",)),
    ("gethostbyname_ex", ("localhost",)),
    ("gethostbyaddr", ("127.0.0.1",)),
    ("getnameinfo", (("127.0.0.1", 80), 0)),
    ("getnameinfo", (("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)),
    ("getfqdn", ("localhost",)),
    ("getfqdn", ()),
]

FAILURES = [
    ("getaddrinfo", ("host.invalid", 80)),
    ("getaddrinfo", ("127.0.0.1", "no-such-service")),
    ("getaddrinfo", ("localhost", 80, 0, 0, 0, socket.AI_NUMERICHOST)),
    ("getaddrinfo", ("127.0.0.1", 80, socket.AF_INET6)),
    ("getaddrinfo", ("a" * 64 + ".invalid", 80)),
    ("getaddrinfo", ("a\0b", 80)),
    ("getaddrinfo", (1, 80)),
    ("getaddrinfo", ("127.0.0.1", object())),
    ("gethostbyname", ("host.invalid",)),
    ("gethostbyname", (1,)),
    ("gethostbyname_ex", ("host.invalid",)),
    ("gethostbyaddr", ("host.invalid",)),
    ("getnameinfo", (("host.invalid", 80), 0)),
    ("getnameinfo", ("127.0.0.1", 0)),
]


def outcome(module, name, args):
    try:
        return getattr(module, name)(*args)
    except (OSError, TypeError, UnicodeError, ValueError) as error:
        return type(error), error.args


@pytest.mark.parametrize(("name", "args"), LOOKUPS)
def test_lookups_are_those_of_the_standard_module(name, args):
    expected = outcome(stdlib_socket, name, args)
    assert outcome(socket, name, args) == expected


@ours_only
@pytest.mark.parametrize(("name", "args"), FAILURES)
def test_errors_are_those_of_the_standard_module(name, args):
    expected = outcome(stdlib_socket, name, args)
    assert isinstance(expected, tuple)
    assert issubclass(expected[0], Exception)
    assert outcome(socket, name, args) == expected


def test_results_have_the_enumerations():
    for family, kind, *_ in socket.getaddrinfo("localhost", 80):
        assert isinstance(family, socket.AddressFamily)
        assert isinstance(kind, socket.SocketKind)


def test_keywords():
    assert socket.getaddrinfo(host="127.0.0.1", port=80, type=socket.SOCK_STREAM)[0][4] == (
        "127.0.0.1",
        80,
    )


def test_lookups_run_side_by_side():
    greenlets = [gevent.spawn(socket.getaddrinfo, "localhost", port) for port in range(1, 101)]
    gevent.joinall(greenlets, timeout=GUARD, raise_error=True)
    for port, greenlet in enumerate(greenlets, 1):
        assert greenlet.get()[0][4][1] == port


def test_lookup_can_be_given_up():
    for _ in range(20):
        greenlet = gevent.spawn(socket.getaddrinfo, "localhost", 80)
        gevent.sleep(0)
        greenlet.kill()
    assert socket.getaddrinfo("localhost", 80)


@ours_only
def test_addresses_in_digits_are_not_given_to_threads():
    ran = []
    gevent.spawn(ran.append, 1)
    before = threading.active_count()
    for host in ("127.0.0.1", "::1", "127.1", None, b"127.0.0.1"):
        assert socket.getaddrinfo(host, 80)
    assert socket.gethostbyname("127.0.0.1") == "127.0.0.1"
    assert ran == [], "it switched"
    assert threading.active_count() == before


def test_resolver_of_the_hub():
    resolver = gevent.get_hub().resolver
    assert resolver.gethostbyname("localhost") == "127.0.0.1"
    found = resolver.getaddrinfo("127.0.0.1", 80, 0, socket.SOCK_STREAM)
    assert [tuple(entry) for entry in found] == [(2, 1, 6, "", ("127.0.0.1", 80))]


def test_blocking_resolver():
    from gevent.resolver.blocking import Resolver

    resolver = Resolver()
    assert resolver.gethostbyname("localhost") == "127.0.0.1"
    resolver.close()
