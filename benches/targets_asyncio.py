"""The workloads of event loops, and what greenloop's has to reach: `make bench-asyncio`.

As targets.py. All loops run the very same server and client code.
"""

from __future__ import annotations

from benches.targets import LOOPS, Metric, Workload

FASTER_THAN = ("uvloop", "rloop")


def _time(
    name: str, module: str, per: str, size: int | None = None, peers: tuple[str, ...] = LOOPS
) -> Workload:
    faster_than = tuple(peer for peer in peers if peer in FASTER_THAN)
    metrics = (Metric("time", "s", per, faster_than=faster_than),)
    return Workload(name, module, peers, metrics, size)


def _echo(kind: str, size: int, label: str, **ratios: float) -> Workload:
    """An echo server with 100 connections.

    ratios: what is asked for beyond being faster.
    """
    faster_than = tuple(peer for peer in FASTER_THAN if peer not in ratios)
    return Workload(
        f"asyncio_echo_{kind}_{label}",
        f"asyncio_echo_{kind}",
        LOOPS,
        (
            Metric("cpu", "s", "message, server's CPU", tuple(ratios.items()), faster_than),
            Metric("time", "s", "message, wall", tuple(ratios.items()), faster_than),
        ),
        size=100,
        parameter=size,
    )


ASYNCIO_WORKLOADS: tuple[Workload, ...] = (
    *(
        workload
        for size, label in ((1024, "1kib"), (64 * 1024, "64kib"))
        for workload in (
            _echo("protocol", size, label),
            _echo("streams", size, label, uvloop=1.5),
            _echo("sock", size, label),
            _echo("tls", size, label, uvloop=1),
        )
    ),
    # A target of 1x: what the system does for a datagram is most of it, on every loop.
    _echo("datagrams", 1024, "1kib", uvloop=1, rloop=1),
    _time("asyncio_call_soon", "asyncio_call_soon", "callback"),
    _time("asyncio_call_later", "asyncio_call_later", "timer armed and cancelled"),
    _time("asyncio_sleep0", "asyncio_sleep0", "sleep(0)"),
    _time("asyncio_gather_50k", "asyncio_gather", "empty coroutine", 50_000),
    _time("asyncio_queue_pingpong", "asyncio_queue_pingpong", "round trip"),
    _time("asyncio_sleepers_10k", "asyncio_sleepers", "10,000 asyncio.sleep(0.01)", 10_000),
    # The peer has no limit to reach: a greenlet in it that sleeps does so on gevent's loop.
    _time(
        "asyncio_sleepers_mixed_10k",
        "asyncio_sleepers_mixed",
        "10,000 asyncio.sleep(0.01) and 10,000 time.sleep(0.01)",
        10_000,
        ("asyncio_gevent",),
    ),
    Workload(
        "asyncio_bridge",
        "asyncio_bridge",
        ("asyncio_gevent",),
        (
            Metric("await", "s", "coroutine awaits greenlet", ratios=(("asyncio_gevent", 10),)),
            Metric("wait", "s", "greenlet waits for coroutine", ratios=(("asyncio_gevent", 10),)),
            Metric("sleep0", "s", "asyncio.sleep(0), of one task"),
            Metric("await_sleeps", "x", "coroutine awaits greenlet, in sleep(0)s", limit=3),
            Metric("wait_sleeps", "x", "greenlet waits for coroutine, in sleep(0)s", limit=3),
        ),
    ),
)
