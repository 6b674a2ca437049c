"""Programs written for the standard sockets run concurrently, unmodified."""

from __future__ import annotations

from typing import Any

import pytest

PATCH = "from gevent import monkey; monkey.patch_all()\n"

FETCHERS = {
    "requests": """
        import requests

        def fetch(url, authority):
            answer = requests.get(url, timeout=60, verify=authority or True)
            return answer.status_code, answer.text
        """,
    "requests-session": """
        import requests

        session = requests.Session()
        session.mount("http", requests.adapters.HTTPAdapter(pool_maxsize=100, pool_block=True))

        def fetch(url, authority):
            answer = session.get(url, timeout=60, verify=authority or True)
            return answer.status_code, answer.text
        """,
    "urllib3": """
        import threading, urllib3

        pool = None
        lock = threading.Lock()

        def fetch(url, authority):
            global pool
            with lock:
                pool = pool or urllib3.PoolManager(maxsize=100, ca_certs=authority)
            answer = pool.request("GET", url, timeout=60)
            return answer.status, answer.data.decode()
        """,
    "http.client": """
        import http.client, ssl, urllib.parse

        def fetch(url, authority):
            parts = urllib.parse.urlsplit(url)
            if authority:
                context = ssl.create_default_context(cafile=authority)
                connection = http.client.HTTPSConnection(
                    parts.hostname, parts.port, timeout=60, context=context)
            else:
                connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
            connection.request("GET", parts.path)
            answer = connection.getresponse()
            text = answer.read().decode()
            connection.close()
            return answer.status, text
        """,
    "urllib.request": """
        import ssl, urllib.request

        def fetch(url, authority):
            context = ssl.create_default_context(cafile=authority) if authority else None
            with urllib.request.urlopen(url, timeout=60, context=context) as answer:
                return answer.status, answer.read().decode()
        """,
}

RUNNERS = {
    "spawn": """
        import gevent

        def run(fetch, works):
            greenlets = [gevent.spawn(fetch, *work) for work in works]
            return [greenlet.get() for greenlet in greenlets]
        """,
    "Thread": """
        import threading

        def run(fetch, works):
            results = {}

            def keep(number, work):
                results[number] = fetch(*work)

            threads = [
                threading.Thread(target=keep, args=item) for item in enumerate(works)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return [results[number] for number in range(len(works))]
        """,
    "ThreadPoolExecutor": """
        import concurrent.futures

        def run(fetch, works):
            with concurrent.futures.ThreadPoolExecutor(len(works)) as executor:
                return list(executor.map(fetch, *zip(*works)))
        """,
}

MAIN = """
import sys, _thread

url, authority, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
results = run(fetch, [(f"{url}{number}", authority or None) for number in range(count)])
assert results == [(200, f"answer to /{number}") for number in range(count)], results
print("done")
"""


def dedent(text: str) -> str:
    from textwrap import dedent

    return dedent(text)


def program(fetcher: str, runner: str) -> str:
    return PATCH + dedent(FETCHERS[fetcher]) + dedent(RUNNERS[runner]) + MAIN


@pytest.mark.parametrize("fetcher", FETCHERS)
def test_http_requests_are_concurrent(run_script: Any, gathering_server: Any, fetcher: str) -> None:
    server = gathering_server(50)
    out = run_script(program(fetcher, "spawn"), server.url, "", "50").check_quiet()
    assert out == "done\n"


@pytest.mark.parametrize("fetcher", FETCHERS)
def test_https_requests_are_concurrent(
    run_script: Any, gathering_server: Any, authority: Any, fetcher: str
) -> None:
    context, file = authority
    server = gathering_server(10, context)
    out = run_script(program(fetcher, "spawn"), server.url, str(file), "10").check_quiet()
    assert out == "done\n"


@pytest.mark.parametrize("runner", ["Thread", "ThreadPoolExecutor"])
def test_a_program_that_knows_threads_only(
    run_script: Any, gathering_server: Any, runner: str
) -> None:
    server = gathering_server(50)
    out = run_script(program("requests", runner), server.url, "", "50").check_quiet()
    assert out == "done\n"


def test_late_patching_after_everything_is_imported(
    run_script: Any, gathering_server: Any, authority: Any
) -> None:
    context, file = authority
    server = gathering_server(10, context)
    script = (
        dedent(FETCHERS["requests"])
        + "\nimport ssl, urllib3, http.client\nold = ssl.create_default_context()\n"
        + PATCH
        + "old.options |= ssl.OP_NO_TICKET; old.minimum_version = ssl.TLSVersion.TLSv1_2\n"
        + dedent(RUNNERS["spawn"])
        + MAIN
    )
    out = run_script(script, server.url, str(file), "10").check_quiet()
    assert out == "done\n"


def test_tls_context_made_before_patching(
    run_script: Any, gathering_server: Any, authority: Any
) -> None:
    context, file = authority
    server = gathering_server(10, context)
    script = """
        import http.client, ssl, sys

        class Derived(ssl.SSLContext):
            pass

        plain = ssl.create_default_context(cafile=sys.argv[2])
        derived = Derived(ssl.PROTOCOL_TLS_CLIENT)
        derived.load_verify_locations(sys.argv[2])

        from gevent import monkey; monkey.patch_all()
        import gevent

        def fetch(number):
            context = (plain, derived)[number % 2]
            connection = http.client.HTTPSConnection("localhost", int(sys.argv[1]), context=context)
            connection.request("GET", f"/{number}")
            answer = connection.getresponse()
            assert answer.read().decode() == f"answer to /{number}"
            connection.close()
            return answer.status

        greenlets = [gevent.spawn(fetch, number) for number in range(10)]
        print({greenlet.get() for greenlet in greenlets})
        """
    out = run_script(script, str(server.server_port), str(file)).check_quiet()
    assert out == "{200}\n"


def test_redis_client(run_script: Any, redis_port: int) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import sys, gevent, redis

        client = redis.Redis(port=int(sys.argv[1]), protocol=2)

        def work(number):
            client.set(f"key{number}", f"value{number}")
            return client.get(f"key{number}")

        # Each of these occupies a connection until something is pushed.
        waiting = [gevent.spawn(client.blpop, f"list{number}") for number in range(10)]
        working = [gevent.spawn(work, number) for number in range(20)]
        assert [g.get() for g in working] == [f"value{number}".encode() for number in range(20)]
        for number in range(10):
            client.rpush(f"list{number}", str(number))
        assert [g.get() for g in waiting] == [
            (f"list{number}".encode(), str(number).encode()) for number in range(10)
        ]
        print("done")
        """
    out = run_script(script, str(redis_port)).check_quiet()
    assert out == "done\n"


def test_threading_socketserver(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import socket, socketserver, threading

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                for line in self.rfile:
                    self.wfile.write(line.upper())

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        clients = [socket.create_connection(server.server_address, 60) for _ in range(5)]
        files = [client.makefile("rw") for client in clients]
        for round in "abc":
            for file in files:
                print(round, file=file, flush=True)
            for file in files:
                assert file.readline() == round.upper() + "\\n"
        for client, file in zip(clients, files):
            file.close()
            client.close()
        server.shutdown()
        serving.join()
        server.server_close()
        print("done")
        """
    out = run_script(script).check_quiet()
    assert out == "done\n"


def test_forking_socketserver(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import socketserver, subprocess, sys

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                for line in self.rfile:
                    self.wfile.write(line.upper())

        CLIENT = '''if True:
            import socket, sys
            connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60)
            file = connection.makefile("rw")
            for line in "abc":
                print(line, file=file, flush=True)
                assert file.readline().strip() == line.upper()
        '''
        server = socketserver.ForkingTCPServer(("127.0.0.1", 0), Handler)
        port = str(server.server_address[1])
        clients = [subprocess.Popen([sys.executable, "-c", CLIENT, port]) for _ in range(3)]
        for _ in clients:
            server.handle_request()
        print([client.wait() for client in clients])
        server.server_close()
        """
    assert run_script(script).check_quiet() == "[0, 0, 0]\n"


def test_http_server_and_client_in_one_thread(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import http.server, threading, urllib.request

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                barrier.wait(60)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(self.path.encode())

            def log_message(self, *args):
                pass

        barrier = threading.Barrier(5)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        answers = []

        def get(number):
            url = f"http://127.0.0.1:{server.server_port}/{number}"
            with urllib.request.urlopen(url, timeout=60) as answer:
                answers.append(answer.read())

        threads = [threading.Thread(target=get, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.shutdown()
        server.server_close()
        print(sorted(answers))
        """
    out = run_script(script).check_quiet()
    assert out == "[b'/0', b'/1', b'/2', b'/3', b'/4']\n"


def test_names_are_the_same_objects(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import gevent.select, gevent.socket, select, socket, ssl

        assert socket.socket is gevent.socket.socket
        assert socket.create_connection is gevent.socket.create_connection
        assert socket.getaddrinfo is gevent.socket.getaddrinfo
        assert select.select is gevent.select.select
        assert type(socket.socketpair()[0]) is gevent.socket.socket
        """
    run_script(script).check_quiet()
