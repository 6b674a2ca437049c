"""Two greenlets that hand control to each other by name: no event loop, no scheduler.

    python -m greenloop examples/greenlet_switch.py

The second greenlet is never resumed after its switch: when the first one returns, control goes
to its parent, the main program. So its last line is not printed.
"""

from greenlet import greenlet


def first() -> str:
    print("main -> first")
    second_greenlet.switch()
    print("second -> first")
    return "first is done"


def second() -> None:
    print("first -> second")
    first_greenlet.switch()
    print("this is never printed")


first_greenlet = greenlet(first)
second_greenlet = greenlet(second)

if __name__ == "__main__":
    result = first_greenlet.switch()
    print(f"first -> main: {result}")
    print(f"first is dead: {first_greenlet.dead}, second is dead: {second_greenlet.dead}")
