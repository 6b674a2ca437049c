"""Stacks of greenlets: their ends, what they take from the system, and their sizes.

What greenloop does by itself: the greenlet package has no stacks of its own. The scripts run in
processes of their own, as most of them end in a crash or under limits.
"""

from __future__ import annotations

import os
import re
import signal
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import RunScript, ScriptResult

pytestmark = pytest.mark.skipif(
    os.environ.get("GREENLOOP_TEST_PEER") == "1", reason="greenlet runs on the thread's stack"
)

# A C function that recurses without end: the C library's parser of regular expressions calls itself
# for each parenthesis. It takes the kind of library: with a PyDLL the GIL is kept meanwhile.
OVERFLOW = """
import ctypes
import faulthandler
import threading

import gevent
from greenlet import greenlet

def overflow(library=ctypes.CDLL):
    library(None).regcomp(ctypes.create_string_buffer(256), b"(" * 1_000_000, 1)
"""

NO_FAULTHANDLER = {"PYTHONFAULTHANDLER": ""}


def overflowing(run_script: RunScript, body: str, **env: str) -> ScriptResult:
    """Run a script that dies of SIGSEGV, without faulthandler unless it enables that itself."""
    result = run_script(
        OVERFLOW + dedent(body), env={**NO_FAULTHANDLER, **env}, signalled=signal.SIGSEGV
    )
    result.check(-signal.SIGSEGV)
    assert "alive" not in result.stdout
    return result


def message(stderr: str) -> re.Match[str]:
    """The one message about an overflow in what a script wrote."""
    found = list(
        re.finditer(
            r"^greenloop: greenlet stack overflow in (?P<who><.*>|.*?), "
            r"thread (?P<thread>0x[0-9a-f]{16}) \((?P<name>.*), \d+\)\n"
            r"greenloop: its C stack of (?P<size>\d+) bytes is used up: "
            r"GREENLOOP_STACK_SIZE=(?P<larger>\d+M) in the environment makes it larger\. "
            r"The process ends\.\n",
            stderr,
            re.MULTILINE,
        )
    )
    assert len(found) == 1, stderr
    return found[0]


@pytest.mark.parametrize("library", ["CDLL", "PyDLL"])
def test_overflow_is_told(run_script: RunScript, library: str) -> None:
    result = overflowing(
        run_script,
        f"""
        g = greenlet(lambda: overflow(ctypes.{library}))
        print(hex(id(g)), threading.get_ident(), flush=True)
        g.switch()
        print("alive")
        """,
    )
    told = message(result.stderr)
    address, thread = result.stdout.split()
    assert told["who"] == f"<greenlet at {address}>"
    assert int(told["thread"], 16) == int(thread)
    assert told["size"] == str(8 << 20)
    assert told["larger"] == "16M"
    assert told.span() == (0, len(result.stderr))


@pytest.mark.parametrize(
    ("make", "who"),
    [
        ("gevent.spawn(overflow)", "Greenlet"),
        ("named('worker of \\u00e9t\\u00e9 \\u20ac \\U0001f600')", 'Greenlet "worker of ?t? ? ?"'),
        ("named('x' * 500)", 'Greenlet "' + "x" * 80 + '"'),
        ("identified()", 'Greenlet "Greenlet-0"'),
        ("named(7)", "Greenlet"),
        ("Crawler.spawn(overflow)", "Crawler"),
    ],
)
def test_overflow_is_told_by_name(run_script: RunScript, make: str, who: str) -> None:
    result = overflowing(
        run_script,
        f"""
        class Crawler(gevent.Greenlet):
            pass

        def named(name):
            g = gevent.spawn(overflow)
            g.name = name
            return g

        def identified():
            g = gevent.spawn(overflow)
            g.minimal_ident
            return g

        g = {make}
        print(hex(id(g)), flush=True)
        g.join()
        print("alive")
        """,
    )
    assert message(result.stderr)["who"] == f"<{who} at {result.stdout.strip()}>"


def test_overflow_in_a_thread(run_script: RunScript) -> None:
    result = overflowing(
        run_script,
        """
        def work():
            print(threading.get_ident(), flush=True)
            greenlet(overflow).switch()
            print("alive")

        greenlet(lambda: None).switch()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        """,
    )
    assert int(message(result.stderr)["thread"], 16) == int(result.stdout)


def test_overflow_of_a_greenlet_that_came_back_from_the_heap(run_script: RunScript) -> None:
    result = overflowing(
        run_script,
        """
        from greenlet import getcurrent

        def wait_first():
            getcurrent().parent.switch()
            overflow()

        greenlets = [greenlet(wait_first) for _ in range(20)]
        for g in greenlets:
            g.switch()
        g = next(g for g in greenlets if g._stack_saved)
        print(hex(id(g)), flush=True)
        g.switch()
        """,
        GREENLOOP_STACK_SLOTS="4",
    )
    assert message(result.stderr)["who"] == f"<greenlet at {result.stdout.strip()}>"


@pytest.mark.parametrize("where", ["main thread", "thread"])
@pytest.mark.parametrize("enable", ["before", "after"])
def test_faulthandler_shows_the_traceback_too(
    run_script: RunScript, enable: str, where: str
) -> None:
    """Whichever was there first."""
    before, after = ("faulthandler.enable()", "")[:: 1 if enable == "before" else -1]
    result = overflowing(
        run_script,
        f"""
        def inner():
            overflow()

        def work():
            greenlet(inner).switch()

        {before}
        greenlet(lambda: None).switch()
        {after}
        if {where!r} == "thread":
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        else:
            work()
        """,
    )
    told = message(result.stderr)
    rest = result.stderr[: told.start()] + result.stderr[told.end() :]
    assert rest.startswith("Fatal Python error: Segmentation fault\n")
    assert "in overflow\n" in rest
    assert "in inner\n" in rest
    # The first to be told is the last to have come.
    assert (told.start() == 0) == (enable == "before")


OTHER_DEATHS = {
    "null pointer": "ctypes.string_at(0)",
    "null pointer in a greenlet": "greenlet(lambda: ctypes.string_at(0)).switch()",
    "null pointer in a thread": """
thread = threading.Thread(target=lambda: greenlet(lambda: ctypes.string_at(0)).switch())
thread.start()
thread.join()
""",
    "raised": "import signal; signal.raise_signal(signal.SIGSEGV)",
    "raised in a greenlet": """
import signal
greenlet(lambda: signal.raise_signal(signal.SIGSEGV)).switch()
""",
    "sent": """
import os, signal, subprocess
subprocess.run(["kill", "-SEGV", str(os.getpid())])
import time
time.sleep(30)
""",
    "the thread's own stack": """
import resource
resource.setrlimit(resource.RLIMIT_STACK, (8 << 20, 8 << 20))
overflow()
""",
}


@pytest.mark.parametrize("kind", list(OTHER_DEATHS))
@pytest.mark.parametrize("enable", ["never", "before", "after"])
def test_other_deaths_are_as_ever(run_script: RunScript, kind: str, enable: str) -> None:
    on = "faulthandler.enable()"
    result = overflowing(
        run_script,
        f"{on if enable == 'before' else ''}\n"
        "greenlet(lambda: None).switch()\n"
        f"{on if enable == 'after' else ''}\n"
        f"{OTHER_DEATHS[kind]}\n"
        "print('alive')\n",
    )
    if enable == "never":
        assert result.stderr == ""
    else:
        assert result.stderr.startswith("Fatal Python error: Segmentation fault\n")
        assert "greenloop: " not in result.stderr


def test_handler_of_another_library_still_recovers(run_script: RunScript) -> None:
    """One that was there before greenlets ran is called for what concerns it, and returns."""
    result = run_script(
        """
        import ctypes, mmap
        from greenlet import greenlet

        libc = ctypes.CDLL(None, use_errno=True)
        PROT_NONE, PROT_RW = 0, 3
        page = mmap.mmap(-1, mmap.PAGESIZE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))

        class SigAction(ctypes.Structure):
            _fields_ = [
                ("handler", ctypes.c_void_p), ("mask", ctypes.c_ulong * 16),
                ("flags", ctypes.c_int), ("restorer", ctypes.c_void_p),
            ]

        calls = 0

        @ctypes.PYFUNCTYPE(None, ctypes.c_int)
        def repair(number):
            global calls
            calls += 1
            libc.mprotect(ctypes.c_void_p(address), mmap.PAGESIZE, PROT_RW)

        action = SigAction(ctypes.cast(repair, ctypes.c_void_p).value)
        assert libc.sigaction(11, ctypes.byref(action), None) == 0

        def touch():
            libc.mprotect(ctypes.c_void_p(address), mmap.PAGESIZE, PROT_NONE)
            ctypes.pythonapi.memset(ctypes.c_void_p(address), 65, 3)
            return page[:3]

        print(touch(), greenlet(touch).switch(), touch(), calls)
        """,
        env=NO_FAULTHANDLER,
    )
    assert result.check_quiet() == "b'AAA' b'AAA' b'AAA' 3\n"


def test_nothing_is_installed_before_a_greenlet_runs(run_script: RunScript) -> None:
    """Importing, patching and asking for the current greenlet leave signals alone."""
    result = run_script(
        """
        def segv():
            fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
            return bool(int(fields["SigCgt"], 16) >> 10 & 1)

        import gevent.monkey
        from greenlet import getcurrent, greenlet

        gevent.monkey.patch_all()
        g = greenlet(lambda: None)
        getcurrent()
        print(segv())
        g.switch()
        print(segv())
        """,
        env=NO_FAULTHANDLER,
    )
    assert result.check_quiet() == "False\nTrue\n"


# Regions whose size is that of a stack with its data area. The size in use is an odd one, so that
# nothing else has it.
REGIONS = """
import re

STACK = 9 << 20
DATA = 64 << 10

def stacks():
    '''Resident KiB of each stack slot.'''
    found, region = [], None
    for line in open("/proc/self/smaps"):
        if bounds := re.match(r"([0-9a-f]+)-([0-9a-f]+) ....", line):
            low, high = (int(bound, 16) for bound in bounds.groups())
            region = high - low
        elif line.startswith("Rss:") and region == STACK + DATA:
            found.append(int(line.split()[1]))
    return found
"""


def test_memory_of_a_deep_excursion_is_given_back(run_script: RunScript) -> None:
    result = run_script(
        REGIONS
        + dedent(
            """
            from greenlet import greenlet, getcurrent

            def sink(levels):
                '''Uses some KiB of the C stack for each level.'''
                if levels:
                    sorted([1], key=lambda item: sink(levels - 1))

            def excursion():
                sink(200)
                deep = max(stacks())
                getcurrent().parent.switch(deep)

            def others(count):
                for _ in range(count):
                    greenlet(lambda: None).switch()

            # At its end.
            g = greenlet(excursion)
            print("deep", g.switch() > 250)
            g.switch()
            others(64)
            print("end", max(stacks()) <= 192)

            # When it makes room for others.
            def wait():
                getcurrent().parent.switch()

            g = greenlet(excursion)
            print("deep", g.switch() > 250)
            parked = [greenlet(wait) for _ in range(300)]
            for p in parked:
                p.switch()
            print("evicted", g._stack_saved > 0, len(stacks()) == 4, max(stacks()) <= 192)
            g.switch()
            for p in parked:
                p.switch()
            """
        ),
        env={"GREENLOOP_STACK_SIZE": "9M", "GREENLOOP_STACK_SLOTS": "4"},
    )
    expected = ["deep True", "end True", "deep True", "evicted True True True"]
    assert result.check_quiet().splitlines() == expected


def test_frames_beyond_the_data_area(run_script: RunScript) -> None:
    """The interpreter's frames lie in 64 KiB next to the stack as long as they fit there."""
    result = run_script(
        """
        from greenlet import greenlet, getcurrent

        def park():
            return getcurrent().parent.switch()

        def function(size):
            names = [f"v{i}" for i in range(size)]
            source = "def f(base, inner):\\n"
            source += "".join(f"    {name} = base + {i}\\n" for i, name in enumerate(names))
            source += "    inner()\\n"
            source += f"    return ({' + '.join(names[::100])}) - base * {len(names[::100])}\\n"
            scope = {}
            exec(source, scope)
            return scope["f"]

        # 8 bytes for each: within the area, at its end, and far beyond it.
        sizes = [100, 4_000, *range(8_020, 8_200, 12), 9_000, 20_000]
        for nested in (False, True):
            greenlets = []
            for base, size in enumerate(sizes):
                f = function(size)
                inner = (lambda f=f: f(1, park)) if nested else park
                greenlets.append(greenlet(lambda f=f, b=base, i=inner: f(b, i)))
            for g in greenlets:
                g.switch()
            results = [g.switch() for g in greenlets]
            print(results == [sum(range(0, size, 100)) for size in sizes])
        """,
        env={"GREENLOOP_STACK_SLOTS": "4"},
    )
    assert result.check_quiet() == "True\nTrue\n"


# --- limited address space ---

LIMIT = """
import resource
resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
"""

GIBIBYTE = 1 << 30


def test_a_patched_program_in_1_gib_of_address_space(run_script: RunScript) -> None:
    """More greenlets than slots in the main thread and in several others; a server and clients."""
    result = run_script(
        "from gevent import monkey\nmonkey.patch_all()\n"
        + LIMIT.format(limit=GIBIBYTE)
        + dedent(
            """
            import http.client, http.server, threading
            import gevent
            from gevent.monkey import get_original

            class Handler(http.server.BaseHTTPRequestHandler):
                protocol_version = "HTTP/1.1"

                def do_GET(self):
                    body = self.path.encode()
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

                def log_message(self, *args):
                    pass

            class Server(http.server.ThreadingHTTPServer):
                request_queue_size = 256

            server = Server(("127.0.0.1", 0), Handler)
            threading.Thread(target=server.serve_forever, daemon=True).start()

            def fetch(path):
                connection = http.client.HTTPConnection(*server.server_address)
                connection.request("GET", path)
                body = connection.getresponse().read().decode()
                connection.close()
                return body

            def work(count, results):
                jobs = [gevent.spawn(fetch, f"/{i}") for i in range(count)]
                gevent.joinall(jobs)
                results.append([job.get() for job in jobs] == [f"/{i}" for i in range(count)])

            def native_thread(function, *args):
                done = []
                start_new_thread = get_original("_thread", "start_new_thread")
                lock = get_original("_thread", "allocate_lock")()
                lock.acquire()

                def run():
                    try:
                        function(*args)
                        gevent.get_hub().destroy()
                    finally:
                        lock.release()

                start_new_thread(run, ())
                return lock

            def limited(results):
                def greenlets(n):
                    gevent.sleep(0.001)
                    return n
                jobs = [gevent.spawn(greenlets, n) for n in range(200)]
                gevent.joinall(jobs)
                results.append([job.value for job in jobs] == list(range(200)))

            results = []
            work(150, results)
            threads = [native_thread(limited, results) for _ in range(6)]
            work(150, results)
            pool = gevent.get_hub().threadpool
            for lock in threads:
                pool.apply(lock.acquire)
            print(len(results), all(results))
            """
        )
    )
    assert result.check_quiet() == "8 True\n"


def test_many_threads_in_1_gib_of_address_space(run_script: RunScript) -> None:
    """Threads, whose own stacks take 8 MiB each: greenlets run in all that can be started."""
    result = run_script(
        LIMIT.format(limit=GIBIBYTE)
        + dedent(
            """
            import threading
            from greenlet import greenlet, getcurrent

            def park(n):
                getcurrent().parent.switch()
                return n

            def work():
                greenlets = [greenlet(park) for n in range(30)]
                for n, g in enumerate(greenlets):
                    g.switch(n)
                results.append([g.switch() for g in greenlets] == list(range(30)))
                barrier.wait()

            results, threads = [], []
            barrier = threading.Barrier(9)
            for _ in range(8):
                threads.append(threading.Thread(target=work))
                threads[-1].start()
            barrier.wait(timeout=50)
            for thread in threads:
                thread.join()
            print(len(results), all(results))
            """
        )
    )
    assert result.check_quiet() == "8 True\n"


def test_stacks_shrink_before_they_fail(run_script: RunScript) -> None:
    """With room for the least number of slots only if they are smaller than usual."""
    result = run_script(
        """
        import resource
        from greenlet import greenlet, getcurrent

        def park(n):
            getcurrent().parent.switch()
            return repr([[[n]]])

        def nest():
            nested = []
            for _ in range(100_000):
                nested = [nested]
            try:
                return repr(nested)
            except RecursionError:
                return "limited"

        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + (18 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        greenlets = [greenlet(park) for _ in range(20)]
        for n, g in enumerate(greenlets):
            g.switch(n)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        print([g.switch() for g in greenlets] == [repr([[[n]]]) for n in range(20)])
        # In each of the four slots.
        parked = []
        for _ in range(4):
            parked.append(greenlet(lambda: (nest(), getcurrent().parent.switch())[0]))
            parked[-1].switch()
        print({g.switch() for g in parked})
        """
    )
    assert result.check_quiet() == "True\n{'limited'}\n"


@pytest.mark.parametrize("size", ["", "8M"])
def test_memory_error_when_there_is_no_room_at_all(run_script: RunScript, size: str) -> None:
    """A size that was asked for is not made smaller; the usual one is, down to 1 MiB."""
    result = run_script(
        """
        import resource, sys
        from greenlet import greenlet, getcurrent

        def park():
            getcurrent().parent.switch()

        room = int(sys.argv[1]) << 20
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + room
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        greenlets = [greenlet(park) for _ in range(20)]
        try:
            for g in greenlets:
                g.switch()
        except MemoryError as error:
            print(error)
        started = [g for g in greenlets if g]
        print(len(started) < 4)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        for g in greenlets:
            if not g:
                g.switch()
        for g in greenlets:
            g.switch()
        print([g.dead for g in greenlets] == [True] * 20)
        """,
        "3" if not size else "14",
        env={"GREENLOOP_STACK_SIZE": size},
    )
    told, few, done = result.check_quiet().splitlines()
    assert told.startswith("no stack for a greenlet: ")
    assert f"it takes {8 << 20 if size else 1 << 20} bytes of address space" in told
    assert told.endswith(", which a smaller GREENLOOP_STACK_SIZE lowers") == bool(size)
    assert (few, done) == ("True", "True")


# --- sizes ---

SHOW = """
import gevent
print(gevent.config.stack_size, gevent.config.stack_slots)
"""


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", 8 << 20),
        ("2097152", 2 << 20),
        ("2048K", 2 << 20),
        ("16M", 16 << 20),
        ("1g", 1 << 30),
        (" 4 M ", 4 << 20),
        ("1048577", (1 << 20) + 4096),
    ],
)
def test_size_from_the_environment(run_script: RunScript, text: str, size: int) -> None:
    result = run_script(SHOW, env={"GREENLOOP_STACK_SIZE": text})
    assert result.check_quiet() == f"{size} 256\n"


@pytest.mark.parametrize(
    "text", ["1023K", "2G", "0", "-8M", "8MB", "8.5M", "M", "eight", "1_000_000", "9" * 30 + "G"]
)
def test_wrong_size_in_the_environment(run_script: RunScript, text: str) -> None:
    result = run_script(SHOW, env={"GREENLOOP_STACK_SIZE": text})
    result.check(1)
    assert result.stderr.endswith(
        "ValueError: GREENLOOP_STACK_SIZE must be a number of bytes from 1M to 1G "
        f'(K, M and G may follow the number), not "{text}"\n'
    )


@pytest.mark.parametrize(("text", "slots"), [("", 256), ("4", 4), ("16384", 16384)])
def test_slots_from_the_environment(run_script: RunScript, text: str, slots: int) -> None:
    result = run_script(SHOW, env={"GREENLOOP_STACK_SLOTS": text})
    assert result.check_quiet() == f"{8 << 20} {slots}\n"


@pytest.mark.parametrize("text", ["3", "16385", "4K", "-4", "many"])
def test_wrong_slots_in_the_environment(run_script: RunScript, text: str) -> None:
    result = run_script(SHOW, env={"GREENLOOP_STACK_SLOTS": text})
    result.check(1)
    assert result.stderr.endswith(
        f'ValueError: GREENLOOP_STACK_SLOTS must be a whole number from 4 to 16384, not "{text}"\n'
    )


def test_sizes_assigned(run_script: RunScript) -> None:
    """They count for what is mapped afterwards, and for threads that come afterwards."""
    result = run_script(
        """
        import re, threading
        import gevent
        from greenlet import greenlet, getcurrent

        def sizes():
            found = []
            for line in open("/proc/self/maps"):
                if bounds := re.match(r"([0-9a-f]+)-([0-9a-f]+) rw-p", line):
                    low, high = (int(bound, 16) for bound in bounds.groups())
                    found.append(high - low - (64 << 10))
            return [found.count(mib << 20) for mib in (9, 11, 13)]

        def park():
            getcurrent().parent.switch()

        parked = []
        def start(count):
            for _ in range(count):
                parked.append(greenlet(park))
                parked[-1].switch()

        gevent.config.stack_size = "9M"
        start(2)
        print(sizes())
        gevent.config.stack_size = 11 << 20
        gevent.config.stack_slots = 6
        start(20)
        print(sizes())
        thread_sizes = []

        def in_thread():
            greenlets = [greenlet(park) for _ in range(20)]
            for g in greenlets:
                g.switch()
            thread_sizes.extend(sizes())
            for g in greenlets:
                g.switch()

        gevent.config.stack_size = 13 << 20
        gevent.config.stack_slots = "5"
        thread = threading.Thread(target=in_thread)
        thread.start()
        thread.join()
        print(thread_sizes)
        for g in parked:
            g.switch()
        """
    )
    assert result.check_quiet().splitlines() == ["[2, 0, 0]", "[2, 4, 0]", "[2, 4, 5]"]
