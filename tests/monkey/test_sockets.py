"""`socket` after patching: names that the program replaces itself, and what stays as it was."""

from __future__ import annotations

PATCH = "from gevent import monkey; monkey.patch_all()\n"


def test_functions_use_what_the_program_puts_in_the_place_of_ours(run_script):
    result = run_script(
        PATCH
        + """
import socket
import gevent.socket

server = socket.create_server(("127.0.0.1", 0))
port = server.getsockname()[1]

class Counted(socket.socket):
    made = 0

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        Counted.made += 1

def pinned(host, *args):
    print("asked for", host)
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

original, socket.socket = socket.socket, Counted
socket.getaddrinfo = pinned
assert type(socket.create_connection(("example.invalid", 443))) is Counted
assert type(gevent.socket.create_connection(("example.invalid", 80))) is Counted
assert type(socket.create_server(("127.0.0.1", 0))) is Counted
made = Counted.made
assert made >= 3
# Its class is asked for another one of its kind.
assert type(socket.fromfd(server.fileno(), socket.AF_INET, socket.SOCK_STREAM)) is Counted
assert Counted.made > made
socket.gethostbyaddr = lambda name: ("full.name", [], [])
print(socket.getfqdn("name"))
socket.has_ipv6 = False
print(socket.has_dualstack_ipv6())
"""
    )
    assert result.stdout.splitlines() == [
        "asked for example.invalid",
        "asked for example.invalid",
        "full.name",
        "False",
    ]


def test_replaced_names_of_an_unpatched_module_are_not_ours(run_script):
    result = run_script(
        """
import socket
from gevent import socket as green

class Blocking(socket.socket):
    pass

socket.socket = Blocking
socket.getaddrinfo = None
server = green.create_server(("127.0.0.1", 0))
assert type(server) is green.socket
assert type(green.create_connection(server.getsockname())) is green.socket
assert type(green.fromfd(server.fileno(), green.AF_INET, green.SOCK_STREAM)) is green.socket
print("cooperative")
"""
    )
    assert result.stdout == "cooperative\n"


def test_type_of_all_sockets(run_script):
    result = run_script(
        """
import socket
before = socket.socket()
"""
        + PATCH
        + """
after = socket.socket()
print(isinstance(before, socket.SocketType), isinstance(after, socket.SocketType))
"""
    )
    assert result.stdout == "True True\n"


def test_idle_threads_of_the_pool_are_not_counted(run_script):
    result = run_script(
        PATCH
        + """
import _thread, gevent, threading

before = _thread._count()
pool = gevent.get_hub().threadpool
pool.apply(int)
assert pool.size == 1
while _thread._count() != before:
    gevent.sleep(0)
started = monkey.get_original("_thread", "allocate_lock")()
started.acquire()
busy = pool.spawn(started.acquire)
while _thread._count() != before + 1:
    gevent.sleep(0)
print("counted")
started.release()
busy.get()
print(_thread._count() == before)
"""
    )
    assert result.stdout == "counted\nTrue\n"
