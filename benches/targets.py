"""The workloads, who runs each, and the numbers greenloop has to reach.

Targets hold on CPython 3.13 and are ratios against a peer of the same run: how many times less
time or memory greenloop takes. Workloads without one are there for information.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OURS = "greenloop"
LOOPS = ("asyncio", "uvloop", "rloop")


@dataclass(frozen=True)
class Metric:
    """One figure a workload program reports under `key`; lower is better.

    `unit` is "s" (seconds), "/s" (seconds too, shown as how many there are in one), "B" (bytes) or
    "x" (a factor), `per` what it is counted for. `ratios`
    gives, by peer, the least ratio peer/greenloop to reach; `faster_than` are peers to beat by any
    margin. `limit` is a figure greenloop itself has to stay below.
    """

    key: str
    unit: Literal["s", "/s", "B", "x"]
    per: str
    ratios: tuple[tuple[str, float], ...] = ()
    faster_than: tuple[str, ...] = ()
    limit: float | None = None

    def target(self, peer: str) -> tuple[float, bool] | None:
        """The ratio to reach against `peer`, and whether exactly that much is not enough."""
        if peer in self.faster_than:
            return 1.0, True
        for name, ratio in self.ratios:
            if name == peer:
                return ratio, False
        return None


@dataclass(frozen=True)
class Workload:
    """A workload: `module` in benches.workloads, run once for each of `impls`, ours first.

    `size` and `parameter` are what the module makes of them; None for its own choice.
    """

    name: str
    module: str
    peers: tuple[str, ...]
    metrics: tuple[Metric, ...]
    size: int | None = None
    parameter: int | None = None

    @property
    def impls(self) -> tuple[str, ...]:
        return (OURS, *self.peers)

    @property
    def informational(self) -> bool:
        return not any(m.ratios or m.faster_than or m.limit is not None for m in self.metrics)


def _time(per: str, *, faster_than: tuple[str, ...] = (), **ratios: float) -> tuple[Metric, ...]:
    return (Metric("time", "s", per, tuple(ratios.items()), faster_than),)


def _faster(per: str) -> tuple[Metric, ...]:
    """What the operations that switch between greenlets have to reach."""
    return _time(per, gevent=6, faster_than=LOOPS)


def _echo_server(name: str, connections: int, size: int, **ratios: float) -> Workload:
    """An echo server, judged by its CPU time: wall time includes waiting for the load.

    A ratio below 1 is what greenloop may take more: 0.77 allows it 1.3 times the peer's time.
    """
    return Workload(
        name,
        "echo_server",
        ("gevent", "asyncio", "uvloop", "uvloop_protocol", "native"),
        (
            Metric("cpu", "s", "message, server's CPU", tuple(ratios.items())),
            Metric("time", "s", "message, wall"),
        ),
        size=connections,
        parameter=size,
    )


WORKLOADS: tuple[Workload, ...] = (
    Workload(
        "greenlet_roundtrip",
        "greenlet_roundtrip",
        ("greenlet", "generator"),
        _time("round trip of two switches", greenlet=7, generator=0.5),
    ),
    Workload(
        "greenlet_create",
        "greenlet_create",
        ("greenlet",),
        _time("greenlet created, run, finished", greenlet=20),
    ),
    Workload(
        "greenlet_roundtrip_args",
        "greenlet_roundtrip_args",
        ("greenlet",),
        (
            Metric("time", "s", "round trip, a value each way", ratios=(("greenlet", 6),)),
            # Most of it is making the tuple and the dict, which take everybody the same.
            Metric("keywords", "s", "round trip, keywords in"),
        ),
    ),
    Workload(
        "greenlet_roundtrip_traced",
        "greenlet_roundtrip_traced",
        ("greenlet",),
        _time("round trip, settrace on", greenlet=1),
    ),
    Workload(
        "greenlet_parked",
        "greenlet_parked",
        ("greenlet",),
        (
            Metric("create", "s", "created and parked", ratios=(("greenlet", 4),)),
            Metric("resume", "s", "resumed in turn", ratios=(("greenlet", 4),)),
            Metric("finish", "s", "finished", ratios=(("greenlet", 4),)),
            Metric("memory", "B", "parked", limit=1_200),
        ),
        size=100_000,
    ),
    Workload(
        "greenlet_growth",
        "greenlet_growth",
        ("greenlet",),
        (
            Metric("switches", "B", "10 million switches", limit=1 << 20),
            Metric("lives", "B", "1 million created and finished", limit=1 << 20),
        ),
    ),
    Workload(
        "spawn_joinall_1k",
        "spawn_joinall",
        ("gevent", *LOOPS),
        _time("empty function", gevent=8, uvloop=3),
        size=1_000,
    ),
    Workload(
        "spawn_joinall_100k",
        "spawn_joinall",
        ("gevent", *LOOPS),
        _time("empty function", gevent=8, uvloop=3),
        size=100_000,
    ),
    Workload(
        "sleep0",
        "sleep0",
        ("gevent", *LOOPS),
        _time("sleep(0)", gevent=6, faster_than=("uvloop", "rloop")),
    ),
    Workload(
        "sleepers_10k",
        "sleepers",
        ("gevent", *LOOPS),
        _time("10,000 sleep(0.01)", gevent=4, asyncio=2, faster_than=("uvloop", "rloop")),
        size=10_000,
    ),
    Workload(
        "sleepers_100k",
        "sleepers",
        ("gevent", *LOOPS),
        _time("100,000 sleep(0.01)", gevent=4, asyncio=2, faster_than=("uvloop", "rloop")),
        size=100_000,
    ),
    Workload(
        "memory_parked",
        "memory_parked",
        ("gevent", "asyncio"),
        (Metric("memory", "B", "parked in Event.wait", limit=1_800),),
        size=50_000,
    ),
    Workload(
        "requests_get",
        "requests_get",
        ("gevent",),
        (
            Metric("time", "s", "1,000 requests, wall", ratios=(("gevent", 0.9),)),
            Metric("cpu", "s", "1,000 requests, CPU", ratios=(("gevent", 1.0),)),
        ),
        size=1_000,
        parameter=200,
    ),
    Workload(
        "requests_get_at_once",
        "requests_get",
        ("gevent",),
        (
            Metric("time", "s", "1,000 requests, wall"),
            Metric("cpu", "s", "1,000 requests, CPU", ratios=(("gevent", 1.25),)),
        ),
        size=1_000,
        parameter=1_000,
    ),
    Workload("queue_pingpong", "queue_pingpong", ("gevent", *LOOPS), _faster("round trip")),
    Workload("semaphore_contention", "semaphore_contention", ("gevent", *LOOPS), _faster("permit")),
    Workload("event_wake_1k", "event_wake", ("gevent", *LOOPS), _faster("waiter"), size=1_000),
    Workload("result_pingpong", "result_pingpong", ("gevent", *LOOPS), _faster("round trip")),
    Workload("event_pingpong", "event_pingpong", ("gevent", *LOOPS), _time("round trip")),
    Workload("queue_put_get", "queue_put_get", ("gevent", *LOOPS), _time("item")),
    Workload(
        "timeout_cancel",
        "timeout_cancel",
        ("gevent", *LOOPS),
        (
            Metric("time", "s", "started and cancelled", ratios=(("gevent", 8),)),
            Metric("block", "s", "with block"),
        ),
    ),
    Workload(
        "timers_1m",
        "timers",
        ("gevent",),
        (
            Metric("time", "s", "timer armed and cancelled"),
            # log 1,000,000 / log 1,000
            Metric("growth", "x", "1,000,000 against 1,000", limit=2),
            Metric("life", "s", "timer made, armed, cancelled, closed"),
        ),
        size=1_000_000,
    ),
    Workload(
        "pool_map_100k",
        "pool_map",
        ("gevent",),
        (
            Metric("map", "s", "job of map", ratios=(("gevent", 8),)),
            Metric("imap_unordered", "s", "job of imap_unordered", ratios=(("gevent", 8),)),
        ),
        size=100_000,
    ),
    Workload(
        "threadpool_apply",
        "threadpool_apply",
        ("gevent", *LOOPS),
        (
            Metric("apply", "s", "apply", ratios=(("gevent", 2),)),
            Metric("map", "s", "job of map"),
        ),
    ),
    Workload(
        "callback_threadsafe_1m",
        "callback_threadsafe",
        ("gevent", *LOOPS),
        _time("callback"),
        size=1_000_000,
    ),
    Workload("socketpair_echo", "socketpair_echo", ("gevent", *LOOPS), _time("round trip")),
    _echo_server("echo_server", 100, 1024, gevent=2.632, uvloop_protocol=1, native=0.77),
    _echo_server("echo_server_1k", 1_000, 1024),
    _echo_server("echo_server_10k", 10_000, 1024),
    _echo_server("echo_server_64kib", 100, 64 * 1024),
    Workload(
        "tls_echo",
        "tls_echo",
        ("gevent", "asyncio", "uvloop"),
        (
            Metric("time", "s", "message, wall"),
            Metric("cpu", "s", "message, server's CPU", ratios=(("gevent", 1.5),)),
        ),
    ),
    Workload("recv_ready", "recv_ready", ("gevent", "blocking"), _time("recv", blocking=0.77)),
    Workload(
        "memory_connections",
        "memory_connections",
        ("gevent", "asyncio", "uvloop"),
        (Metric("memory", "B", "connection parked in recv", limit=3 * 1024),),
        size=10_000,
    ),
    Workload(
        "import_patch",
        "import_patch",
        ("gevent",),
        (
            Metric("time", "s", "import and patch_all()"),
            Metric("cpu", "s", "import and patch_all(), CPU", ratios=(("gevent", 1.0),)),
        ),
    ),
)


PEERS_HTTP = ("greenloop_serve", "bjoern", "granian", "gunicorn", "gevent")


PEERS_ASGI = ("greenloop_serve", "granian", "uvicorn")


def _http(
    name: str,
    *others: Metric,
    size: int = 64,
    peers: tuple[str, ...] = PEERS_HTTP,
    **ratios: float,
) -> Workload:
    """Requests to a server from `size` connections, judged by how many it answers a second."""
    metrics = (
        Metric("time", "/s", "request", tuple(ratios.items())),
        *others,
        Metric("p99", "s", "request, 99 of 100"),
        Metric("cpu", "s", "request, server's CPU"),
    )
    return Workload(name, name, peers, metrics, size=size)


HTTP_WORKLOADS: tuple[Workload, ...] = (
    _http("http_hello", bjoern=1, granian=1.5, gunicorn=8, gevent=30),
    _http("asgi_hello", peers=PEERS_ASGI, granian=1, uvicorn=1.5),
    _http("http_flask", gunicorn=1.5),
    _http("http_post", granian=1),
    _http("http_file", granian=1),
    # 0.85 of what is possible: 1 / 0.85.
    _http("http_sleep", Metric("share", "x", "possible request", limit=1.1765), size=512),
    Workload(
        "http_idle",
        "http_idle",
        PEERS_HTTP,
        (Metric("memory", "B", "idle connection", limit=4 * 1024 + 1),),
        size=10_000,
    ),
    Workload("http_pipeline", "http_pipeline", PEERS_HTTP, (Metric("time", "/s", "request"),)),
    Workload(
        "http_slow",
        "http_slow",
        PEERS_HTTP,
        (
            Metric("worst", "s", "fresh client, slowest", limit=0.1),
            Metric("p99", "s", "fresh client, 99 of 100"),
            Metric("median", "s", "fresh client, median"),
        ),
        size=2_000,
    ),
)
