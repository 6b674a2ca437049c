"""Runs servers and clients against each other for long, with kills and time-outs at random, and
looks whether anything grows: `make soak`.

    python tools/soak.py [--minutes 30] [--seed N] [--clients 100]

Everything is the standard library after `patch_all()`, in one process: echo over TCP, TLS and UNIX
sockets, HTTP (`http.client` to `http.server`), datagrams, name look-ups, queues with producers
and consumers, locks, native threads of the pool, child processes, files and pipes. Each client does
one of these, chosen at random, again and again; a third of them under a `Timeout` of some
milliseconds, a third of them killed from outside at any moment.

Every round ends with a pause in which all clients have finished: there, resident memory, open
descriptors and living greenlets are read. Descriptors and greenlets have to be what they were
after the first rounds, memory within a few per cent. Exit status 1 if something grew or was lost.
"""

from __future__ import annotations

from greenloop import monkey

monkey.patch_all()

import argparse
import contextlib
import gc
import http.client
import http.server
import os
import queue
import random
import socket
import socketserver
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import greenloop
from greenloop.pool import Group

#: Seconds in which a round starts clients.
ROUND = 5.0

#: Seconds that clients get to finish after it. What takes longer hangs.
PATIENCE = 60.0

#: Memory may differ by so much between the first and the last rounds: the allocator's and the
#: interpreter's caches go up and down by that.
TOLERANCE = 0.04

#: Rounds to warm up in, as a part of all.
WARM_UP = 0.25


class Echo(socketserver.StreamRequestHandler):
    """Sends back what comes, until the other side has finished."""

    def handle(self) -> None:
        # A client that was killed resets the connection.
        with contextlib.suppress(OSError):
            while data := self.request.recv(65536):
                self.request.sendall(data)

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024


class TlsServer(Server):
    """An echo server that shakes hands in the handler's thread."""

    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        with (
            contextlib.suppress(OSError),
            self.context.wrap_socket(request, server_side=True) as connection,
        ):
            super().finish_request(connection, client_address)


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024


class Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b"x" * int(self.path.strip("/"))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Site(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024


@dataclass(frozen=True)
class State:
    """What may not grow."""

    memory: int
    descriptors: int
    greenlets: int


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def look() -> State:
    """The state when nothing is under way."""
    for _ in range(3):
        gc.collect()
        greenloop.sleep(0)
    greenlets = sum(isinstance(it, greenloop.Greenlet) and not it.dead for it in gc.get_objects())
    return State(resident(), len(os.listdir("/proc/self/fd")), greenlets)


class Soak:
    """The servers and what clients do with them."""

    def __init__(self, seed: int, directory: Path) -> None:
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.cut_off: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.directory = directory
        self.certificates(directory)
        self.tcp = self.serve(Server(("127.0.0.1", 0), Echo))
        tls = TlsServer(("127.0.0.1", 0), Echo)
        tls.context = self.server_context
        self.tls = self.serve(tls)
        self.unix = self.serve(UnixServer(str(directory / "echo"), Echo))
        self.http = self.serve(Site(("127.0.0.1", 0), Pages))
        self.datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.datagrams.bind(("127.0.0.1", 0))
        threading.Thread(target=self.echo_datagrams, daemon=True).start()
        self.lock = threading.Lock()
        self.held = False
        self.work: queue.Queue[tuple[int, queue.Queue[int]]] = queue.Queue(10)
        for _ in range(4):
            threading.Thread(target=self.consume, daemon=True).start()
        self.jobs: tuple[Callable[[], None], ...] = (
            self.echo_tcp,
            self.echo_tls,
            self.echo_unix,
            self.fetch,
            self.send_datagram,
            self.resolve,
            self.produce,
            self.hold,
            self.compute,
            self.run_child,
            self.pipe,
            self.sleep,
        )

    def certificates(self, directory: Path) -> None:
        import trustme

        authority = trustme.CA()
        self.server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self.server_context)
        self.client_context = ssl.create_default_context()
        authority.configure_trust(self.client_context)

    def serve(self, server: Any) -> Any:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_address

    # --- servers' sides ---

    def echo_datagrams(self) -> None:
        while True:
            data, address = self.datagrams.recvfrom(65536)
            self.datagrams.sendto(data, address)

    def consume(self) -> None:
        while True:
            number, answers = self.work.get()
            answers.put(number + 1)
            self.work.task_done()

    # --- clients' sides ---

    def payload(self) -> bytes:
        size = self.random.choice((1, 100, 1024, 30_000, 500_000))
        return bytes([self.random.randrange(256)]) * size

    def check(self, good: bool, what: str) -> None:
        if not good:
            self.wrong.append(what)

    def echo(self, connection: socket.socket) -> None:
        for _ in range(self.random.randrange(1, 5)):
            data = self.payload()
            # Both ways at once: neither side may have to wait for the other to read.
            sender = greenloop.spawn(connection.sendall, data)
            try:
                received = bytearray()
                while len(received) < len(data):
                    part = connection.recv(65536)
                    if not part:
                        break
                    received += part
            finally:
                sender.kill()
            self.check(received == data, f"echo of {len(data)} bytes differs")

    def echo_tcp(self) -> None:
        with socket.create_connection(self.tcp) as connection:
            self.echo(connection)

    def echo_tls(self) -> None:
        with (
            socket.create_connection(self.tls) as plain,
            self.client_context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            self.echo(connection)

    def echo_unix(self) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.unix)
            self.echo(connection)

    def fetch(self) -> None:
        connection = http.client.HTTPConnection(*self.http[:2])
        try:
            for _ in range(self.random.randrange(1, 4)):
                size = self.random.choice((0, 10, 5000, 200_000))
                connection.request("GET", f"/{size}")
                self.check(len(connection.getresponse().read()) == size, "page differs")
        finally:
            connection.close()

    def send_datagram(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.sendto(b"ping", self.datagrams.getsockname())
            # Datagrams may be dropped when many come at once.
            with contextlib.suppress(TimeoutError):
                self.check(sock.recv(100) == b"ping", "datagram differs")

    def resolve(self) -> None:
        host = self.random.choice(("localhost", "127.0.0.1", "::1"))
        self.check(bool(socket.getaddrinfo(host, 80)), "no address")

    def produce(self) -> None:
        answers: queue.Queue[int] = queue.Queue()
        self.work.put((1, answers))
        self.check(answers.get() == 2, "answer differs")

    def hold(self) -> None:
        with self.lock:
            self.check(not self.held, "two hold the lock")
            self.held = True
            try:
                time.sleep(0.0005)
            finally:
                self.held = False

    def compute(self) -> None:
        pool = greenloop.get_hub().threadpool
        self.check(pool.apply(sum, (range(10_000),)) == 49_995_000, "sum differs")

    def run_child(self) -> None:
        # Processes are dear: few of them.
        if self.random.random() < 0.05:
            with subprocess.Popen(
                ["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            ) as child:
                try:
                    output, _ = child.communicate(b"through a child")
                    self.check(output == b"through a child", "output of a child differs")
                finally:
                    child.kill()

    def pipe(self) -> None:
        left, right = socket.socketpair()
        with left, right, left.makefile("rwb") as writer, right.makefile("rb") as reader:
            writer.write(b"line\n")
            writer.flush()
            self.check(reader.readline() == b"line\n", "line differs")

    def sleep(self) -> None:
        time.sleep(self.random.random() * 0.02)

    # --- rounds ---

    def client(self, job: Callable[[], None], limit: float | None) -> None:
        name = job.__name__
        try:
            with greenloop.Timeout(limit):
                job()
            self.done[name] += 1
        except greenloop.Timeout:
            self.cut_off[name] += 1
        except greenloop.GreenletExit:
            self.cut_off[name] += 1
            raise
        except Exception as error:  # whatever it is, it is reported and the others go on
            self.wrong.append(f"{name}: {error!r}")

    def round(self, clients: int) -> None:
        """Keep so many clients at work for a while, then let all finish."""
        group = Group()
        end = time.monotonic() + ROUND
        while time.monotonic() < end:
            while len(group) < clients:
                limit = self.random.random() * 0.01 if self.random.random() < 1 / 3 else None
                client = greenloop.Greenlet(self.client, self.random.choice(self.jobs), limit)
                group.start(client)
                if self.random.random() < 1 / 3:
                    greenloop.spawn_later(self.random.random() * 0.01, client.kill, block=False)
            time.sleep(0.001)
        group.join(timeout=PATIENCE)
        for client in group:
            self.wrong.append(f"hangs: {client!r}")
        group.kill()
        # Handlers see that their clients have gone.
        time.sleep(0.2)


def growth(states: list[State]) -> list[str]:
    """What is more at the end than at the beginning."""
    warm = states[max(1, int(len(states) * WARM_UP)) :]
    third = max(1, len(warm) // 3)
    first, last = warm[:third], warm[-third:]
    found = []
    for name, tolerance in ("memory", TOLERANCE), ("descriptors", 0.0), ("greenlets", 0.0):
        before = statistics.median(getattr(state, name) for state in first)
        after = statistics.median(getattr(state, name) for state in last)
        if after > before * (1 + tolerance):
            found.append(f"{name} grew from {before:,.0f} to {after:,.0f}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Run for long and look whether anything grows.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()

    print(f"seed {options.seed}, CPython {sys.version.split()[0]}", flush=True)
    states: list[State] = []
    with tempfile.TemporaryDirectory() as directory:
        soak = Soak(options.seed, Path(directory))
        end = time.monotonic() + options.minutes * 60
        while time.monotonic() < end or len(states) < 4:
            soak.round(options.clients)
            states.append(look())
            state = states[-1]
            print(
                f"round {len(states)}: {soak.done.total():,} done, "
                f"{soak.cut_off.total():,} cut off; {state.memory / 1e6:.1f} MB, "
                f"{state.descriptors} descriptors, {state.greenlets} greenlets",
                flush=True,
            )
        print(f"done: {dict(soak.done)}\ncut off: {dict(soak.cut_off)}")
    problems = growth(states) + soak.wrong[:20]
    if len(soak.wrong) > 20:
        problems.append(f"and {len(soak.wrong) - 20} more")
    print("\n".join(problems) or "nothing grew, nothing was lost")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
