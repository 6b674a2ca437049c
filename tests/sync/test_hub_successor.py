"""Greenlets of a hub that is destroyed: its loop's next hub runs them on."""

import subprocess
import sys
import threading

import pytest

GUARD = 60

PROGRAM = """
import threading
import greenloop
from greenloop import get_hub, sleep, spawn
from greenloop.event import Event
from greenloop.lock import Semaphore
from greenloop.queue import Queue

semaphore, queue, event = Semaphore(0), Queue(), Event()

def twice():
    event.wait()
    sleep(0)
    sleep(0.001)
    return "twice"

def failing():
    event.wait()
    raise ValueError("reported")

greenlets = [spawn(semaphore.acquire), spawn(queue.get), spawn(twice), spawn(failing),
             spawn(sleep, 0.001), spawn(lambda: spawn(int, "7").get())]
sleep(0)

def wake():
    semaphore.release()
    queue.put("item")
    event.set()

{how}
with greenloop.Timeout(10):
    greenloop.joinall(greenlets)
print([greenlet.value for greenlet in greenlets])
get_hub().destroy()
sleep(0.001)
print("end")
"""

WAYS = {
    "no hub": "get_hub().destroy(); wake()",
    "the next hub is there": "get_hub().destroy(); get_hub(); wake()",
    "the next hub has run": "get_hub().destroy(); sleep(0); wake()",
    "two hubs later": "get_hub().destroy(); sleep(0); get_hub().destroy(); wake()",
    "another thread": """
get_hub().destroy()
thread = threading.Thread(target=wake)
thread.start()
thread.join()
""",
}


@pytest.mark.parametrize("way", WAYS)
def test_whoever_waits_is_woken_and_ends(way):
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("{how}", WAYS[way])],
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
    )
    assert ran.stdout == "[True, 'item', 'twice', None, None, 7]\nend\n", ran.stderr
    assert "ValueError: reported" in ran.stderr
    assert "InvalidSwitchError" not in ran.stderr


def test_a_loop_of_ones_own_is_not_taken_for_that_of_a_hub():
    """Nobody wakes who waits in a hub that is destroyed with its loop."""
    woken = []

    def thread():
        from greenloop import core, get_hub, sleep, spawn
        from greenloop.lock import Semaphore

        own = core.loop(default=True)
        semaphore = Semaphore(0)
        spawn(lambda: woken.append(semaphore.acquire()))
        sleep(0)
        get_hub().destroy(destroy_loop=True)
        semaphore.release()
        assert semaphore.counter == 1
        own.run()
        own.destroy()
        sleep(0)

    other = threading.Thread(target=thread)
    other.start()
    other.join()
    assert woken == []
