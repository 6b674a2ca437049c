"""A long computation keeps every other greenlet waiting, unless it gives way now and then.

    python -m greenloop examples/compute_bound.py

sleep(0) lets all greenlets that are ready run once, and comes back.
"""

import gevent


def compute(give_way: bool, events: list[str]) -> None:
    total = 0
    for step in range(3):
        total += sum(range(10_000))
        events.append(f"step {step}")
        if give_way:
            gevent.sleep(0)


def heartbeat(events: list[str]) -> None:
    for _ in range(3):
        events.append("beat")
        gevent.sleep(0)


def run(give_way: bool) -> list[str]:
    events: list[str] = []
    gevent.joinall([gevent.spawn(compute, give_way, events), gevent.spawn(heartbeat, events)])
    return events


if __name__ == "__main__":
    print("without giving way:", ", ".join(run(give_way=False)))
    print("with sleep(0):     ", ", ".join(run(give_way=True)))
