"""The echo server over TLS. As echo_server; the load generator is a Python program here."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from benches.companions.launch import Companion
from benches.harness import Bench, Metrics, main
from benches.workloads.echo_server import load_arguments, serve_greenlets, serve_tasks

if TYPE_CHECKING:
    import ssl


def load(bench: Bench, port: int, pid: int) -> Companion:
    return Companion("tls_load", *load_arguments(bench, port, pid), cpu=bench.companion_cpu)


def context() -> ssl.SSLContext:
    """A server's, with a certificate of its own. The clients do not look at it."""
    # Not at the top: the program patches before it imports them.
    import ssl

    import trustme

    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = trustme.CA().issue_cert("127.0.0.1")
    with certificate.private_key_and_cert_chain_pem.tempfile(tempfile.gettempdir()) as path:
        made.load_cert_chain(path)
    return made


def greenlets(bench: Bench) -> Metrics:
    from gevent import monkey

    monkey.patch_all()
    return serve_greenlets(bench, load, context)


async def tasks(bench: Bench) -> Metrics:
    return await serve_tasks(bench, load, context)


if __name__ == "__main__":
    main(greenlets=greenlets, tasks=tasks, size=50, parameter=1024)
