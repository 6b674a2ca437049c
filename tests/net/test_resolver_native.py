"""The resolvers that make their own queries: what they ask, keep and share.

That they find what the C library does is in test_dns_parity.py.
"""

from __future__ import annotations

import os
import socket as stdlib_socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from conftest import GUARD
from dns_server import NOERROR, NXDOMAIN, SERVFAIL, A, Query, Reply, Server, Zone, reverse_name
from scripts import USE_PEER

pytestmark = pytest.mark.skipif(USE_PEER, reason="gevent has no such resolver")

if not USE_PEER:
    from gevent.resolver import ares, native

HOSTS = "10.5.0.1 inhosts.test inhosts\n127.0.0.1 localhost\n"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """A directory with files as in /etc."""
    for name, text in {
        "hosts": HOSTS,
        "nsswitch.conf": "hosts: files dns\n",
        "resolv.conf": "nameserver 127.0.0.1\n",
        "host.conf": "multi on\n",
        "gai.conf": "",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def zone() -> Zone:
    made = Zone()
    made.add("www.test", "A", "10.0.0.1", "10.0.0.2")
    made.add("www.test", "AAAA", "2001:db8::1")
    made.add("alias.test", "CNAME", "WWW.test")
    made.add("host.corp.test", "A", "10.0.0.3")
    made.add("forever.test", "A", "10.0.0.4", ttl=86400)
    made.add("now.test", "A", "10.0.0.5", ttl=0)
    made.add("big.test", "A", *(f"10.2.0.{number}" for number in range(1, 101)))
    made.add("xn--bcher-kva.test", "A", "10.0.0.6")
    made.add(reverse_name("10.0.0.1"), "PTR", "www.test")
    return made


@pytest.fixture
def server(zone: Zone) -> Iterator[Server]:
    with Server(zone.answer) as made:
        yield made


@pytest.fixture
def make(server: Server, etc: Path) -> Callable[..., Any]:
    """Makes resolvers that ask the server."""

    def make(**settings: Any) -> Any:
        settings = {"servers": [server.name], "directory": str(etc)} | settings
        return native.Resolver(**settings)

    return make


@pytest.fixture
def resolver(make: Callable[..., Any]) -> Any:
    return make()


class Held:
    """Answers of a zone that are held back until `release` is set."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.release = threading.Event()

    def answer(self, query: Query) -> Reply | None:
        assert self.release.wait(GUARD)
        return self.zone.answer(query)


@pytest.fixture
def held(zone: Zone) -> Iterator[Held]:
    made = Held(zone)
    yield made
    made.release.set()


def until(condition: Callable[[], bool]) -> None:
    """Let others run until something is so."""
    with gevent.Timeout(GUARD):
        while not condition():
            gevent.sleep(0.001)


def test_all_look_ups(resolver: Any) -> None:
    assert resolver.gethostbyname("www.test") == "10.0.0.1"
    assert resolver.gethostbyname_ex("alias.test") == (
        "WWW.test",
        ["alias.test"],
        ["10.0.0.1", "10.0.0.2"],
    )
    found = resolver.getaddrinfo(
        "alias.test", 80, 0, stdlib_socket.SOCK_STREAM, 0, stdlib_socket.AI_CANONNAME
    )
    assert sorted(entry[4] for entry in found) == [
        ("10.0.0.1", 80),
        ("10.0.0.2", 80),
        ("2001:db8::1", 80, 0, 0),
    ]
    assert [entry[3] for entry in found] == ["WWW.test", "", ""]
    assert resolver.gethostbyaddr("10.0.0.1") == ("www.test", [], ["10.0.0.1"])
    assert resolver.getnameinfo(("10.0.0.1", 80), stdlib_socket.NI_NUMERICSERV) == (
        "www.test",
        "80",
    )
    assert resolver.gethostbyname("b\xfccher.test") == "10.0.0.6"


def test_hosts_need_no_server(resolver: Any, server: Server) -> None:
    assert resolver.gethostbyname("inhosts") == "10.5.0.1"
    assert resolver.gethostbyaddr("10.5.0.1")[:2] == ("inhosts.test", ["inhosts"])
    assert resolver.gethostbyname("127.0.0.7") == "127.0.0.7"
    assert server.queries == []


def test_answers_are_kept_as_long_as_they_hold(resolver: Any, server: Server, zone: Zone) -> None:
    zone.add("short.test", "A", "10.0.0.9", ttl=1)
    resolver.gethostbyname("short.test")
    for _ in range(3):
        assert resolver.gethostbyname("forever.test") == "10.0.0.4"
    assert server.asked("forever.test") == 1
    for count in (1, 2, 3):
        resolver.gethostbyname("now.test")
        assert server.asked("now.test") == count
    with gevent.Timeout(GUARD):
        while server.asked("short.test") < 2:
            resolver.gethostbyname("short.test")
            gevent.sleep(0.05)
    assert server.asked("forever.test") == 1


def test_kinds_are_kept_apart(resolver: Any, server: Server) -> None:
    resolver.getaddrinfo("www.test", 80, stdlib_socket.AF_INET)
    resolver.getaddrinfo("WWW.Test", 80)
    resolver.getaddrinfo("www.test", 80, stdlib_socket.AF_INET6)
    assert (server.asked("www.test"), server.asked("www.test", "AAAA")) == (1, 1)


def test_that_there_is_no_such_name_is_kept_if_the_zone_says_how_long(
    make: Callable[..., Any], server: Server, zone: Zone
) -> None:
    resolver = make(search=[])
    for count in (1, 2):
        with pytest.raises(stdlib_socket.gaierror):
            resolver.gethostbyname("nowhere.test")
        assert server.asked("nowhere.test") == count
    zone.soa = (600, 600)
    for _ in range(3):
        with pytest.raises(stdlib_socket.gaierror):
            resolver.gethostbyname("nowhere.test")
    assert server.asked("nowhere.test") == 3
    # The same holds of what a name does not have.
    zone.add("nodata.test", "TXT", "x")
    for _ in range(2):
        with pytest.raises(stdlib_socket.gaierror):
            resolver.gethostbyname("nodata.test")
    assert server.asked("nodata.test") == 1


def test_failures_are_not_kept(make: Callable[..., Any], server: Server, zone: Zone) -> None:
    resolver = make(tries=1)
    zone.codes["www.test"] = SERVFAIL
    with pytest.raises(stdlib_socket.gaierror) as caught:
        resolver.gethostbyname("www.test")
    assert caught.value.errno == stdlib_socket.EAI_AGAIN
    zone.codes.clear()
    assert resolver.gethostbyname("www.test") == "10.0.0.1"


def test_number_of_answers_kept(make: Callable[..., Any], server: Server) -> None:
    none = make(cache_size=0)
    for _ in range(2):
        none.gethostbyname("forever.test")
    assert server.asked("forever.test") == 2
    one = make(cache_size=1)
    one.gethostbyname("www.test")
    one.gethostbyname("forever.test")
    assert one.names.cached == 1


def test_close_forgets(resolver: Any, server: Server) -> None:
    resolver.gethostbyname("forever.test")
    resolver.close()
    resolver.gethostbyname("forever.test")
    assert server.asked("forever.test") == 2


def test_changes_of_the_files_are_noticed(etc: Path, zone: Zone, server: Server) -> None:
    def replace(name: str, text: str) -> None:
        (etc / "new").write_text(text)
        (etc / "new").rename(etc / name)

    resolver = native.Resolver(directory=str(etc), udp_port=server.port, tcp_port=server.port)
    assert resolver.gethostbyname("forever.test") == "10.0.0.4"
    replace("hosts", "10.5.5.5 forever.test\n")
    assert resolver.gethostbyname("forever.test") == "10.5.5.5"
    replace("nsswitch.conf", "hosts: dns files\n")
    assert resolver.gethostbyname("forever.test") == "10.0.0.4"
    with pytest.raises(stdlib_socket.gaierror):
        resolver.gethostbyname("host")
    replace("resolv.conf", "nameserver 127.0.0.1\nsearch corp.test\n")
    assert resolver.gethostbyname("host") == "10.0.0.3"
    # Whom to ask has changed, so nothing of what others said counts any more.
    asked = server.asked("forever.test")
    assert resolver.gethostbyname("forever.test") == "10.0.0.4"
    assert server.asked("forever.test") == asked + 1


def test_search_list(make: Callable[..., Any], server: Server) -> None:
    resolver = make(search=["other.test", "corp.test"], ndots=2)
    assert resolver.gethostbyname_ex("host") == ("host.corp.test", [], ["10.0.0.3"])
    assert [query.name for query in server.queries] == ["host.other.test", "host.corp.test"]


# --- many at once


def test_look_ups_overlap(held: Held, etc: Path) -> None:
    count = 100
    for number in range(count):
        held.zone.add(f"name{number}.test", "A", f"10.3.0.{number}")
    with Server(held.answer) as server:
        resolver = native.Resolver(servers=[server.name], directory=str(etc))
        names = [f"name{number}.test" for number in range(count)]
        greenlets = [gevent.spawn(resolver.gethostbyname, name) for name in names]
        # Each of them is waiting for its answer.
        until(lambda: len(server.queries) == count)
        assert resolver.names.pending == count
        held.release.set()
        gevent.joinall(greenlets, timeout=GUARD, raise_error=True)
    assert [greenlet.value for greenlet in greenlets] == [f"10.3.0.{n}" for n in range(count)]
    assert resolver.names.pending == 0


def test_no_threads_are_used(resolver: Any) -> None:
    pool = gevent.get_hub().threadpool
    before = pool.size
    resolver.getaddrinfo("www.test", 80)
    assert pool.size == before


def test_both_families_are_asked_for_at_once(held: Held, etc: Path) -> None:
    with Server(held.answer) as server:
        resolver = native.Resolver(servers=[server.name], directory=str(etc))
        greenlet = gevent.spawn(resolver.getaddrinfo, "www.test", 80)
        until(lambda: len(server.queries) == 2)
        held.release.set()
        assert greenlet.get(timeout=GUARD)


def test_or_one_after_the_other_if_resolv_conf_says_so(held: Held, etc: Path) -> None:
    (etc / "resolv.conf").write_text("options single-request\n")
    with Server(held.answer) as server:
        resolver = native.Resolver(servers=[server.name], directory=str(etc))
        greenlet = gevent.spawn(resolver.getaddrinfo, "www.test", 80)
        until(lambda: len(server.queries) == 1)
        assert resolver.names.pending == 1
        held.release.set()
        assert greenlet.get(timeout=GUARD)
        assert len(server.queries) == 2


def test_who_asks_the_same_shares_the_answer(held: Held, etc: Path) -> None:
    with Server(held.answer) as server:
        resolver = native.Resolver(servers=[server.name], directory=str(etc))
        greenlets = [gevent.spawn(resolver.gethostbyname, "www.test") for _ in range(20)]
        until(lambda: len(server.queries) > 0)
        held.release.set()
        gevent.joinall(greenlets, timeout=GUARD, raise_error=True)
        assert {greenlet.value for greenlet in greenlets} == {"10.0.0.1"}
        assert server.asked("www.test") == 1


def test_giving_up_does_no_harm_to_others(held: Held, etc: Path) -> None:
    with Server(held.answer) as server:
        resolver = native.Resolver(servers=[server.name], directory=str(etc))
        # The first one is who has put the question.
        greenlets = [gevent.spawn(resolver.gethostbyname, "www.test") for _ in range(3)]
        until(lambda: len(server.queries) > 0)
        gevent.killall(greenlets[:2], timeout=GUARD)
        with gevent.Timeout(0.01, False):
            resolver.gethostbyname("www.test")
        held.release.set()
        assert greenlets[2].get(timeout=GUARD) == "10.0.0.1"
        assert server.asked("www.test") == 1


def test_an_answer_that_nobody_waits_for_is_kept(held: Held, etc: Path) -> None:
    with Server(held.answer) as server:
        resolver = native.Resolver(servers=[server.name], directory=str(etc))
        greenlet = gevent.spawn(resolver.gethostbyname, "forever.test")
        until(lambda: len(server.queries) > 0)
        greenlet.kill(timeout=GUARD)
        held.release.set()
        until(lambda: resolver.names.pending == 0)
        assert resolver.gethostbyname("forever.test") == "10.0.0.4"
        assert server.asked("forever.test") == 1


def test_threads_do_not_wait_for_each_other(held: Held, etc: Path) -> None:
    with Server(held.answer) as server:
        resolver = native.Resolver(servers=[server.name], directory=str(etc))
        results: list[str] = []

        def look_up() -> None:
            results.append(resolver.gethostbyname("www.test"))
            gevent.get_hub().destroy()

        threads = [threading.Thread(target=look_up) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: server.asked("www.test") == 3)
        held.release.set()
        for thread in threads:
            thread.join(GUARD)
        assert results == ["10.0.0.1"] * 3
        assert resolver.names.pending == 0


def test_a_thread_that_ends_leaves_no_query(held: Held, etc: Path) -> None:
    with Server(held.answer) as server:
        resolver = native.Resolver(servers=[server.name], directory=str(etc))

        def look_up() -> None:
            greenlet = gevent.spawn(resolver.gethostbyname, "www.test")
            until(lambda: len(server.queries) > 0)
            greenlet.kill(block=False)

        thread = threading.Thread(target=look_up)
        thread.start()
        thread.join(GUARD)
        until(lambda: resolver.names.pending == 0)
        held.release.set()
        assert resolver.gethostbyname("www.test") == "10.0.0.1"


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_asks_itself(held: Held, etc: Path) -> None:
    with Server(held.answer) as server:
        resolver = native.Resolver(servers=[server.name], directory=str(etc))
        greenlet = gevent.spawn(resolver.gethostbyname, "www.test")
        until(lambda: server.asked("www.test") == 1)
        pid = os.fork()
        if not pid:
            status = 1
            try:
                status = int(resolver.gethostbyname("www.test") != "10.0.0.1")
            finally:
                os._exit(status)
        until(lambda: server.asked("www.test") == 2)
        held.release.set()
        assert greenlet.get(timeout=GUARD) == "10.0.0.1"
        with gevent.Timeout(GUARD):
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# --- servers


def test_the_next_server_is_asked_if_one_is_silent(
    make: Callable[..., Any], server: Server
) -> None:
    with Server(lambda query: None) as silent:
        resolver = make(servers=[silent.name, server.name], timeout=0.05)
        assert resolver.gethostbyname("www.test") == "10.0.0.1"
        until(lambda: silent.asked("www.test") == 1)


def test_the_next_server_is_asked_at_once_if_there_is_none(
    make: Callable[..., Any], server: Server
) -> None:
    with stdlib_socket.socket(stdlib_socket.AF_INET, stdlib_socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{unused.getsockname()[1]}"
    resolver = make(servers=[nobody, server.name], timeout=10 * GUARD)
    with gevent.Timeout(GUARD):
        assert resolver.gethostbyname("www.test") == "10.0.0.1"


def test_nobody_answers(make: Callable[..., Any]) -> None:
    with Server(lambda query: None) as silent:
        resolver = make(servers=[silent.name], timeout=0.01, tries=3)
        with pytest.raises(stdlib_socket.gaierror) as caught:
            resolver.getaddrinfo("www.test", 80, stdlib_socket.AF_INET)
        assert caught.value.errno == stdlib_socket.EAI_AGAIN
        # The server counts what it reads, in a thread of its own.
        until(lambda: silent.asked("www.test") >= 3)
        assert silent.asked("www.test") == 3
        with pytest.raises(stdlib_socket.herror) as caught_herror:
            resolver.gethostbyaddr("10.0.0.1")
        assert caught_herror.value.errno == 2


def test_servers_take_turns(make: Callable[..., Any], zone: Zone) -> None:
    with Server(zone.answer) as one, Server(zone.answer) as other:
        resolver = make(servers=f"{one.name}, {other.name}", rotate=True, cache_size=0)
        for _ in range(4):
            resolver.gethostbyname("www.test")
        assert (one.asked("www.test"), other.asked("www.test")) == (2, 2)


def test_long_answers_come_over_tcp(make: Callable[..., Any], server: Server) -> None:
    resolver = make()
    assert len(resolver.gethostbyname_ex("big.test")[2]) == 100
    assert [query.transport for query in server.queries] == ["udp", "tcp"]
    server.queries.clear()
    tcp = make(tcp=True)
    assert tcp.gethostbyname("www.test") == "10.0.0.1"
    assert [query.transport for query in server.queries] == ["tcp"]
    only_udp = make(retry_over_tcp=False, tries=1)
    with pytest.raises(stdlib_socket.gaierror):
        only_udp.gethostbyname("big.test")


def test_without_tcp_long_answers_are_none(make: Callable[..., Any], zone: Zone) -> None:
    with Server(zone.answer, tcp=False) as server:
        resolver = make(servers=[server.name], tries=1)
        with pytest.raises(stdlib_socket.gaierror) as caught:
            resolver.gethostbyname("big.test")
        assert caught.value.errno == stdlib_socket.EAI_AGAIN


def test_edns(make: Callable[..., Any], server: Server) -> None:
    make(edns=True).gethostbyname("www.test")
    make().gethostbyname("www.test")
    assert [query.edns for query in server.queries] == [True, False]


def test_forged_answers_do_not_count(make: Callable[..., Any], zone: Zone) -> None:
    def answer(query: Query) -> list[bytes]:
        forged = Reply(NOERROR, [(query.name, A, 300, "10.66.66.66")]).encode(query, 512)
        other_id = bytes([forged[0] ^ 1]) + forged[1:]
        other_name = forged.replace(b"\3www", b"\3wwx")
        good = zone.answer(query)
        assert good is not None
        return [b"", b"x", other_id, other_name, good.encode(query, 512)]

    with Server(answer) as server:
        resolver = make(servers=[server.name])
        assert resolver.gethostbyname("www.test") == "10.0.0.1"


def test_numbers_and_ports_cannot_be_foreseen(make: Callable[..., Any], server: Server) -> None:
    resolver = make(cache_size=0)
    for _ in range(30):
        resolver.gethostbyname("www.test")
    assert len({query.id for query in server.queries}) > 15
    assert len({query.port for query in server.queries}) > 5


def test_nonsense_from_servers(make: Callable[..., Any], server: Server) -> None:
    def nonsense(query: Query) -> bytes:
        # A response with that number, and nothing that can be read.
        return query.raw[:2] + b"\x81\x80" + b"\xff" * 30

    with Server(nonsense) as broken:
        resolver = make(servers=[broken.name, server.name])
        assert resolver.gethostbyname("www.test") == "10.0.0.1"


def test_servers_over_ipv6(make: Callable[..., Any], zone: Zone) -> None:
    try:
        server = Server(zone.answer, ("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with server:
        resolver = make(servers=[server.name])
        assert resolver.gethostbyname("www.test") == "10.0.0.1"


def test_descriptors_are_closed(make: Callable[..., Any]) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with Server(lambda query: Reply(NXDOMAIN)) as server:
        resolver = make(servers=[server.name], search=[])
        before = descriptors()
        for number in range(50):
            with pytest.raises(stdlib_socket.gaierror):
                resolver.gethostbyname(f"name{number}.test")
        assert descriptors() <= before + 5


# --- settings


@pytest.mark.parametrize(
    "settings",
    [
        {"servers": []},
        {"servers": ["name.test"]},
        {"servers": "10.0.0.1:99999"},
        {"timeout": 0.0},
        {"timeout": float("nan")},
        {"tries": 0},
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        native.Resolver(**settings)


def test_servers_of_the_configuration(etc: Path, server: Server, monkeypatch: Any) -> None:
    monkeypatch.setattr(gevent.config, "resolver_nameservers", [server.name])
    resolver = native.Resolver(directory=str(etc))
    assert resolver.gethostbyname("www.test") == "10.0.0.1"
    assert "127.0.0.1" in repr(resolver)


def test_settings_of_ares(server: Server, monkeypatch: Any) -> None:
    host, port = server.name.split(":")
    plain = ares.Resolver(servers=host, udp_port=port, tcp_port=int(port))
    assert plain.gethostbyname("www.test") == "10.0.0.1"
    monkeypatch.setattr(gevent.config, "ares_servers", host)
    monkeypatch.setattr(gevent.config, "ares_udp_port", port)
    monkeypatch.setattr(gevent.config, "ares_tcp_port", port)
    server.queries.clear()
    # ARES_FLAG_USEVC, ARES_FLAG_EDNS
    assert ares.Resolver(flags=0x101).gethostbyname("www.test") == "10.0.0.1"
    assert [(query.transport, query.edns) for query in server.queries] == [("tcp", True)]
    # ARES_FLAG_NOSEARCH
    server.queries.clear()
    with pytest.raises(stdlib_socket.gaierror):
        ares.Resolver(flags=1 << 5).gethostbyname("nowhere")
    assert [query.name for query in server.queries] == ["nowhere"]
    assert ares.Resolver(use_environ=False).names.servers != ares.Resolver().names.servers


def test_ares_has_errors_of_its_own_if_nobody_answers() -> None:
    with Server(lambda query: None) as silent:
        resolver = ares.Resolver(servers=[silent.name], timeout=0.01, tries=1)
        with pytest.raises(stdlib_socket.herror, match="ARES_ETIMEOUT"):
            resolver.gethostbyname("www.test")
        with pytest.raises(stdlib_socket.gaierror, match="ARES_ETIMEOUT") as caught:
            resolver.getaddrinfo("www.test", 80, stdlib_socket.AF_INET)
        assert caught.value.errno == 12


def test_others_run_meanwhile(resolver: Any) -> None:
    ran: list[int] = []
    gevent.spawn(ran.append, 1)
    resolver.gethostbyname("www.test")
    assert ran == [1]
