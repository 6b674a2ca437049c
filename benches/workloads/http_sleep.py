"""An application that sleeps for 10 ms, with `size` connections.

No server can answer more often than the sleeps allow, nor than it answers when nothing sleeps:
`share` is the least of these times for a request, over the measured one, turned round: 1 would be
all that is possible, 1.18 is 0.85 of it.
"""

from __future__ import annotations

from benches.companions.wsgi_application import SLEEP_SECONDS
from benches.harness import Bench, Metrics, main_of_servers
from benches.http_load import measure, serving

HELLO_CONNECTIONS = 64
#: Servers that sleep for one client at a time need 5.12 s before they answer the last.
SECONDS = 8


def servers(bench: Bench) -> Metrics:
    with serving(bench, "sleep") as server:
        hello = measure(bench, server, path="/hello", connections=HELLO_CONNECTIONS)
        seen = measure(bench, server, seconds=SECONDS)
    possible = max(SLEEP_SECONDS / bench.size, hello["time"])
    return {**seen, "share": seen["time"] / possible}


if __name__ == "__main__":
    main_of_servers(servers, size=512)
