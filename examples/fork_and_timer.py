"""A greenlet that waits when the process forks goes on in the parent, and only there.

    python -m greenloop examples/fork_and_timer.py [SECONDS]

do_magic() is due after SECONDS (1 if not given), and the process forks before that: it is called
once, in the parent. The child goes on with the greenlet that forked, and may start its own.
"""

from gevent import monkey

monkey.patch_all()

import os
import sys
import time

import gevent

DUE = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0


def do_magic(parent: int) -> None:
    # One write, newline included: two processes print at the same time.
    sys.stdout.write(f"magic in the {'parent' if os.getpid() == parent else 'child'}\n")
    sys.stdout.flush()


def main() -> None:
    greenlet = gevent.spawn_later(DUE, do_magic, os.getpid())
    pid = os.fork()
    if pid == 0:
        time.sleep(3 * DUE)
        gevent.spawn(print, "the child starts greenlets of its own").join()
    else:
        greenlet.join()
        _, status = os.waitpid(pid, 0)
        print(f"the child ended with status {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
