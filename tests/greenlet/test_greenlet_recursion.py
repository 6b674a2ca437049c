"""Deep recursion in greenlets, in Python and in C: RecursionError at worst, never a crash.

The scripts run in processes of their own, since what they look for is a crash.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from greenlet import greenlet
from greenlet_support import park

if TYPE_CHECKING:
    from scripts import RunScript

# Recursive C calls, each a function body that must end in RecursionError. `compile` may say
# MemoryError instead, which is how the parser reports its own limit, and marshal ValueError.
C_RECURSION = {
    "repr": """
        nested = []
        for _ in range(100_000):
            nested = [nested]
        repr(nested)
    """,
    "repr of dicts": """
        nested = {}
        for _ in range(100_000):
            nested = {1: nested}
        repr(nested)
    """,
    "comparison": """
        a, b = [], []
        for _ in range(300_000):
            a, b = [a], [b]
        a == b
    """,
    "json.dumps": """
        import json
        nested = []
        for _ in range(100_000):
            nested = [nested]
        json.dumps(nested)
    """,
    "json.loads": """
        import json
        json.loads("[" * 100_000)
    """,
    "pickle": """
        import pickle
        nested = []
        for _ in range(100_000):
            nested = [nested]
        pickle.dumps(nested)
    """,
    "sort key": """
        def key(item):
            return sorted([1, 2], key=key)
        key(1)
    """,
    "map": """
        def call(x):
            return list(map(call, [x]))
        call(1)
    """,
    "getattr": """
        class Loop:
            def __getattr__(self, name):
                return getattr(self, name + "x")
        Loop().a
    """,
    "repr method": """
        class Loop:
            def __repr__(self):
                return repr([self.again()])
            def again(self):
                return Loop()
        repr(Loop())
    """,
    "isinstance": """
        nested = (int,)
        for _ in range(300_000):
            nested = (nested,)
        isinstance("", nested)
    """,
    "compile": """
        eval("-" * 100_000 + "1")
    """,
    "parentheses in calls": """
        eval(("f(" + "not " * 15) * 190 + "1" + ")" * 190)
    """,
    "conditional expressions": """
        eval("1 if 1 else " * 100_000 + "1")
    """,
    "syntax tree": """
        import ast
        place = {"lineno": 1, "col_offset": 0}
        node = ast.Constant(1, **place)
        for _ in range(100_000):
            node = ast.UnaryOp(ast.USub(), node, **place)
        compile(ast.Expression(node), "", "eval")
    """,
    "sum chain": """
        eval("+".join(["1"] * 100_000 + ["x"]))
    """,
    "marshal": """
        import marshal
        nested = ()
        for _ in range(100_000):
            nested = (nested,)
        marshal.dumps(nested)
    """,
    "deepcopy": """
        import copy
        nested = []
        for _ in range(100_000):
            nested = [nested]
        copy.deepcopy(nested)
    """,
    "pickle by reduce": """
        import pickle
        class Loop:
            def __reduce__(self):
                return pickle.loads, (pickle.dumps(Loop()),)
        pickle.dumps(Loop())
    """,
    "sort of what sorts": """
        class Loop:
            def __lt__(self, other):
                return sorted([Loop(), Loop()])
        sorted([Loop(), Loop()])
    """,
    "reduce": """
        import functools
        def loop(a, b):
            return functools.reduce(loop, [1, 2])
        loop(1, 2)
    """,
    "format": """
        class Loop:
            def __format__(self, spec):
                return f"{Loop()}"
        f"{Loop()}"
    """,
    "re.sub": """
        import re
        def loop(match):
            return re.sub("a", loop, "a")
        loop(None)
    """,
    "exec": """
        code = compile("exec(code)", "", "exec")
        exec(code, {"code": code})
    """,
    "metaclass": """
        class Meta(type):
            def __call__(cls):
                return super().__call__()
        class Loop(metaclass=Meta):
            def __new__(cls):
                return Loop()
        Loop()
    """,
    "import": """
        import sys
        class Finder:
            def find_spec(*args):
                return __import__(f"no_such_module_{len(args)}_{id(object())}")
        sys.meta_path.insert(0, Finder())
        try:
            import no_such_module
        finally:
            del sys.meta_path[0]
    """,
    "python": """
        def loop():
            loop()
        loop()
    """,
    "constructors": """
        class Loop:
            def __init__(self):
                self.next = Loop()
        Loop()
    """,
}

C_RECURSION_SCRIPT = """
import threading
from greenlet import greenlet, getcurrent

SOURCE = {source!r}

def attempt():
    scope = {{}}
    try:
        exec(SOURCE, scope)
    except (RecursionError, MemoryError, ValueError) as exc:
        return "limited"
    return "no limit met"

def body():
    first = attempt()
    getcurrent().parent.switch()
    return first, attempt()

def several():
    greenlets = [greenlet(body) for _ in range(3)]
    for g in greenlets:
        g.switch()
    return [g.switch() for g in greenlets]

for outcome in several():
    print(*outcome)
thread = threading.Thread(target=lambda: print(*several()[0]))
thread.start()
thread.join()
"""


# The real package has no stacks to choose a size for.
SIZES = ["8M"] if os.environ.get("GREENLOOP_TEST_PEER") == "1" else ["8M", "1M"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", list(C_RECURSION))
def test_endless_recursion_is_limited(run_script: RunScript, name: str, size: str) -> None:
    from textwrap import dedent

    result = run_script(
        C_RECURSION_SCRIPT.format(source=dedent(C_RECURSION[name])),
        env={"GREENLOOP_STACK_SIZE": size},
    )
    assert result.check_quiet().splitlines() == ["limited limited"] * 4


def test_15000_python_frames(run_script: RunScript) -> None:
    result = run_script(
        """
        import sys
        from greenlet import greenlet, getcurrent

        sys.setrecursionlimit(20_000)

        def descend(n):
            return 0 if n == 0 else 1 + descend(n - 1)

        def parked(n):
            return getcurrent().parent.switch("parked") if n == 0 else 1 + parked(n - 1)

        print(greenlet(descend).switch(15_000))
        greenlets = [greenlet(parked) for _ in range(3)]
        for g in greenlets:
            print(g.switch(15_000))
        print(descend(15_000))
        for g in greenlets:
            print(g.switch(100))
        greenlets = [greenlet(parked) for _ in range(3)]
        for g in greenlets:
            g.switch(15_000)
        del g
        greenlets.clear()
        print("dropped")
        """
    )
    expected = ["15000", *["parked"] * 3, "15000", *["15100"] * 3, "dropped"]
    assert result.check_quiet().splitlines() == expected


def test_deep_stack_unwound_by_an_exception(run_script: RunScript) -> None:
    result = run_script(
        """
        import sys
        from greenlet import greenlet, getcurrent

        sys.setrecursionlimit(20_000)

        def parked(n):
            if n == 0:
                getcurrent().parent.switch()
            parked(n - 1)

        g = greenlet(parked)
        g.switch(15_000)
        try:
            g.throw(ValueError("up"))
        except ValueError as exc:
            depth, tb = 0, exc.__traceback__
            while tb is not None:
                depth, tb = depth + 1, tb.tb_next
            print(exc, depth > 15_000)
        """
    )
    assert result.check_quiet() == "up True\n"


def test_deeply_nested_objects_freed_in_a_greenlet(run_script: RunScript) -> None:
    result = run_script(
        """
        from greenlet import greenlet, getcurrent

        def make():
            nested = None
            for _ in range(200_000):
                nested = (nested,)
            return nested

        def inside():
            nested = make()
            getcurrent().parent.switch()
            del nested
            return "freed"

        def elsewhere(nested):
            nested.clear()
            return "freed elsewhere"

        greenlets = [greenlet(inside) for _ in range(3)]
        for g in greenlets:
            g.switch()
        for g in greenlets:
            print(g.switch())
        print(greenlet(elsewhere).switch([make()]))
        """
    )
    assert result.check_quiet().splitlines() == [*["freed"] * 3, "freed elsewhere"]


# Ways to nest a million objects, each a statement that makes `nested` hold one more.
NESTING = {
    "list": "nested = [nested]",
    "tuple": "nested = (nested,)",
    "dict": "nested = {1: nested}",
    "instance": "nested = Holder(nested)",
    "slots": "nested = Slots(nested)",
    "exception": "nested = ValueError(nested)",
    "closure": "nested = (lambda held: lambda: held)(nested)",
    "iterator": "nested = iter([nested])",
    "partial": "nested = functools.partial(print, nested)",
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", list(NESTING))
def test_a_million_nested_objects_are_freed(run_script: RunScript, kind: str, size: str) -> None:
    result = run_script(
        f"""
        import functools
        from greenlet import greenlet, getcurrent

        class Holder:
            def __init__(self, held):
                self.held = held

        class Slots:
            __slots__ = ("held",)
            def __init__(self, held):
                self.held = held

        def make():
            nested = None
            for _ in range(1_000_000):
                {NESTING[kind]}
            return nested

        def body():
            nested = make()
            getcurrent().parent.switch()
            del nested
            return "freed"

        g = greenlet(body)
        g.switch()
        print(g.switch())
        # With the greenlet, when nobody wants it any more.
        g = greenlet(body)
        g.switch()
        del g
        print("freed with the greenlet")
        """,
        env={"GREENLOOP_STACK_SIZE": size},
    )
    assert result.check_quiet() == "freed\nfreed with the greenlet\n"


def test_python_recursion_ends_at_the_limit_of_sys(run_script: RunScript) -> None:
    """The same number of calls as outside, but for the few that are the greenlet's own."""
    result = run_script(
        """
        import sys
        from greenlet import greenlet

        def depth():
            count = 0
            def call():
                nonlocal count
                count += 1
                call()
            try:
                call()
            except RecursionError:
                return count

        for limit in (100, 1_000, 5_000):
            sys.setrecursionlimit(limit)
            outside, inside = depth(), greenlet(depth).switch()
            print(abs(limit - inside) < 10, abs(outside - inside) < 30)
        """
    )
    assert result.check_quiet().splitlines() == ["True True"] * 3


def depth_left() -> int:
    """How many more calls may be made from here."""
    count = 0

    def call() -> None:
        nonlocal count
        count += 1
        call()

    try:
        call()
    except RecursionError:
        pass
    return count


def parked_at(depth: int) -> Any:
    if depth:
        return parked_at(depth - 1)
    park()
    return depth_left()


def test_parked_greenlets_do_not_count_for_others() -> None:
    before = depth_left()
    greenlets = [greenlet(parked_at) for _ in range(20)]
    for g in greenlets:
        g.switch(200)
    assert depth_left() == before
    inside = [g.switch() for g in greenlets]
    assert depth_left() == before
    assert len(set(inside)) == 1
    assert inside[0] < before


def test_depth_is_the_greenlet_s_own_wherever_it_is_resumed_from() -> None:
    def body() -> list[int]:
        seen = []
        for _ in range(3):
            park()
            seen.append(depth_left())
        return seen

    def resume_from(depth: int, g: greenlet) -> Any:
        return resume_from(depth - 1, g) if depth else g.switch()

    g = greenlet(body)
    g.switch()
    for depth in (300, 0):
        resume_from(depth, g)
    seen = resume_from(100, g)
    assert len(set(seen)) == 1


def test_recursion_error_leaves_both_sides_with_their_limits() -> None:
    def body() -> list[int]:
        first = depth_left()
        park()
        return [first, depth_left(), depth_left()]

    before = depth_left()
    g = greenlet(body)
    g.switch()
    assert depth_left() == before
    seen = g.switch()
    assert len(set(seen)) == 1
    assert depth_left() == before


def test_uncaught_recursion_error_reaches_the_parent() -> None:
    def endless() -> None:
        endless()

    before = depth_left()
    g = greenlet(endless)
    with pytest.raises(RecursionError):
        g.switch()
    assert g.dead
    assert depth_left() == before


def test_limit_raised_while_parked() -> None:
    g = greenlet(lambda: [depth_left(), park(), depth_left()])
    g.switch()
    previous = sys.getrecursionlimit()
    sys.setrecursionlimit(previous + 500)
    try:
        first, _, second = g.switch()
    finally:
        sys.setrecursionlimit(previous)
    assert second == first + 500


def test_chain_of_nested_greenlets_is_bounded_by_memory_not_by_luck(run_script: RunScript) -> None:
    """Each level runs in a greenlet of its own: it ends well, or in RecursionError."""
    result = run_script(
        """
        from greenlet import greenlet

        def nest(n):
            return 0 if n == 0 else 1 + greenlet(nest).switch(n - 1)

        try:
            print("ended", nest(5_000) == 5_000)
        except RecursionError:
            print("ended", True)
        """
    )
    assert result.check_quiet() == "ended True\n"
