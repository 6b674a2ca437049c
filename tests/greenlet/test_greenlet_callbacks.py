"""Switches made from Python code that C code has called."""

from __future__ import annotations

import bisect
import functools
import gc
import heapq
import itertools
import json
import re
from typing import Any

import pytest
from greenlet import greenlet
from greenlet_support import park


def interleave(count: int, body: Any) -> list[Any]:
    """Run `count` greenlets of `body(n)` by turns until all are dead; return their results."""
    greenlets = [greenlet(functools.partial(body, n)) for n in range(count)]
    results: list[Any] = [None] * count
    while any(not g.dead for g in greenlets):
        for n, g in enumerate(greenlets):
            if not g.dead:
                results[n] = g.switch()
    return results


def test_sort_key() -> None:
    def body(n: int) -> list[int]:
        def key(item: int) -> int:
            park()
            return -item

        return sorted(range(n + 5), key=key)

    assert interleave(5, body) == [list(reversed(range(n + 5))) for n in range(5)]


def test_sort_comparison() -> None:
    def body(n: int) -> list[int]:
        def compare(a: int, b: int) -> int:
            park()
            return b - a

        return sorted(range(n + 5), key=functools.cmp_to_key(compare))

    assert interleave(5, body) == [list(reversed(range(n + 5))) for n in range(5)]


def test_list_being_sorted_in_place() -> None:
    def body(n: int) -> list[int]:
        items = [3, 1, 2]

        def key(item: int) -> int:
            park()
            assert items == []
            return item

        items.sort(key=key)
        return items

    assert interleave(3, body) == [[1, 2, 3]] * 3


def test_map_filter_and_reduce() -> None:
    def body(n: int) -> Any:
        def step(x: int) -> int:
            park()
            return x + n

        mapped = list(map(step, range(5)))
        filtered = list(filter(lambda x: (park(), x % 2)[1], mapped))
        return sum(filtered), functools.reduce(lambda a, b: (park(), a * b)[1], mapped, 1)

    def expected(n: int) -> Any:
        mapped = [x + n for x in range(5)]
        return sum(x for x in mapped if x % 2), functools.reduce(lambda a, b: a * b, mapped)

    assert interleave(4, body) == [expected(n) for n in range(4)]


class Key:
    """A dict key whose hash and comparison switch."""

    def __init__(self, value: int, switching: bool = True) -> None:
        self.value = value
        self.switching = switching

    def __hash__(self) -> int:
        if self.switching:
            park()
        return 1

    def __eq__(self, other: Any) -> bool:
        if self.switching:
            park()
        return isinstance(other, Key) and self.value == other.value


def test_dict_and_set_with_switching_keys() -> None:
    def body(n: int) -> Any:
        table = {}
        for i in range(4):
            table[Key(i)] = i * n
        return [table[Key(i)] for i in range(4)], len({Key(1), Key(2), Key(1)}), Key(9) in table

    assert interleave(3, body) == [([0, n, 2 * n, 3 * n], 2, False) for n in range(3)]


def test_comparisons_and_containers() -> None:
    def body(n: int) -> Any:
        items = [Key(i) for i in range(4)]
        return items.index(Key(2)), Key(3) in items, items.count(Key(1)), [Key(1)] == [Key(1)]

    assert interleave(3, body) == [(2, True, 1, True)] * 3


def test_special_methods() -> None:
    class Switching:
        def __init__(self, n: int) -> None:
            self.n = n

        def __repr__(self) -> str:
            park()
            return f"S{self.n}"

        def __len__(self) -> int:
            park()
            return self.n

        def __index__(self) -> int:
            park()
            return self.n

        def __iter__(self) -> Any:
            park()
            return iter(range(self.n))

        def __getattr__(self, name: str) -> str:
            park()
            return f"{name}{self.n}"

        def __add__(self, other: int) -> int:
            park()
            return self.n + other

        def __format__(self, spec: str) -> str:
            park()
            return f"{spec}{self.n}"

        def __contains__(self, item: int) -> bool:
            park()
            return item == self.n

        def __call__(self, *args: Any) -> Any:
            park()
            return args

    def body(n: int) -> Any:
        s = Switching(n)
        return (
            repr([s, (s,), {1: s}]),
            len(s),
            list(range(10))[s],
            [*s],
            s.attr,
            s + 1,
            f"{s:x}",
            n in s,
            s(1),
            "%r" % s,  # noqa: UP031
        )

    assert interleave(4, body) == [
        (
            f"[S{n}, (S{n},), {{1: S{n}}}]",
            n,
            n,
            list(range(n)),
            f"attr{n}",
            n + 1,
            f"x{n}",
            True,
            (1,),
            f"S{n}",
        )
        for n in range(4)
    ]


def test_descriptors_and_class_hooks() -> None:
    class Descriptor:
        def __get__(self, obj: Any, owner: Any) -> int:
            park()
            return 7

        def __set__(self, obj: Any, value: int) -> None:
            park()

        def __set_name__(self, owner: Any, name: str) -> None:
            park()

    def body(n: int) -> Any:
        class Base:
            def __init_subclass__(cls) -> None:
                park()

        class Sub(Base):
            value = Descriptor()

        s = Sub()
        s.value = 3
        return s.value, getattr(s, "value")  # noqa: B009

    assert interleave(3, body) == [(7, 7)] * 3


def test_finalizer_that_switches() -> None:
    log = []

    class Dying:
        def __init__(self, n: int) -> None:
            self.n = n

        def __del__(self) -> None:
            park()
            log.append(self.n)

    def body(n: int) -> str:
        for _ in range(3):
            Dying(n)
        return f"done {n}"

    assert interleave(3, body) == ["done 0", "done 1", "done 2"]
    assert sorted(log) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_finalizer_run_by_the_collector_that_switches() -> None:
    log = []

    class Dying:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            park("in finalizer")
            log.append("finalized")

    def body() -> str:
        Dying()
        gc.collect()
        return "done"

    gc.collect()
    g = greenlet(body)
    gc.disable()
    try:
        assert g.switch() == "in finalizer"
        assert g.switch() == "done"
    finally:
        gc.enable()
    assert log == ["finalized"]


def test_weak_reference_callback_that_switches() -> None:
    import weakref

    class Target:
        pass

    def body() -> str:
        target = Target()
        ref = weakref.ref(target, lambda _: park("in callback"))
        del target
        return "done" if ref() is None else "alive"

    g = greenlet(body)
    assert g.switch() == "in callback"
    assert g.switch() == "done"


def test_regular_expression_replacement() -> None:
    def body(n: int) -> str:
        return re.sub(r"\d", lambda m: str(int(m[0]) + n) + (park() or ""), "1a2b3")

    assert interleave(3, body) == ["1a2b3", "2a3b4", "3a4b5"]


def test_json_hooks() -> None:
    class Thing:
        pass

    def default(obj: Any) -> str:
        park()
        return "thing"

    def hook(pairs: dict[str, Any]) -> Any:
        park()
        return sorted(pairs.items())

    def body(n: int) -> Any:
        text = json.dumps({"a": Thing(), "b": [Thing(), n]}, default=default)
        return json.loads(text, object_hook=hook)

    assert interleave(3, body) == [[("a", "thing"), ("b", ["thing", n])] for n in range(3)]


def test_heap_and_bisect() -> None:
    class Ordered:
        def __init__(self, value: int) -> None:
            self.value = value

        def __lt__(self, other: Ordered) -> bool:
            park()
            return self.value < other.value

    def body(n: int) -> Any:
        heap: list[Ordered] = []
        for value in (3, 1, 2):
            heapq.heappush(heap, Ordered(value + n))
        ordered = [heapq.heappop(heap).value for _ in range(3)]
        return ordered, bisect.bisect([Ordered(v) for v in range(5)], Ordered(2))

    assert interleave(3, body) == [([1 + n, 2 + n, 3 + n], 3) for n in range(3)]


def test_iterators_that_call_back() -> None:
    def body(n: int) -> Any:
        numbers = itertools.count()

        def step() -> int:
            park()
            return next(numbers)

        def short(x: int) -> bool:
            park()
            return x < 3 + n

        return list(zip(iter(step, 9), itertools.takewhile(short, itertools.count()), strict=False))

    assert interleave(3, body) == [[(k, k) for k in range(3 + n)] for n in range(3)]


def test_cached_function() -> None:
    def body(n: int) -> list[int]:
        @functools.lru_cache
        def fib(k: int) -> int:
            park()
            return k if k < 2 else fib(k - 1) + fib(k - 2)

        return [fib(k) for k in range(8)]

    assert interleave(3, body) == [[0, 1, 1, 2, 3, 5, 8, 13]] * 3


def test_exceptions_through_c_callers() -> None:
    def body(n: int) -> str:
        def key(item: int) -> int:
            park()
            if item == n:
                raise LookupError(item)
            return item

        try:
            sorted(range(5), key=key)
        except LookupError as exc:
            return f"failed at {exc}"
        return "sorted"

    assert interleave(6, body) == [f"failed at {n}" for n in range(5)] + ["sorted"]


def test_thrown_into_a_c_call() -> None:
    def body() -> list[int]:
        return sorted([3, 1, 2], key=lambda item: park(item))

    g = greenlet(body)
    assert g.switch() == 3
    with pytest.raises(LookupError):
        g.throw(LookupError)
    assert g.dead


def test_parked_in_c_call_and_dropped() -> None:
    log = []

    def key(item: int) -> None:
        try:
            park()
        finally:
            log.append(item)

    g = greenlet(lambda: sorted([3, 1, 2], key=key))
    g.switch()
    del g
    assert log == [3]


def test_deep_mix_of_c_and_python_calls() -> None:
    def nest(n: int) -> int:
        if n == 0:
            return park("bottom")
        return max(map(nest, [n - 1])) + 1

    greenlets = [greenlet(nest) for _ in range(20)]
    for n, g in enumerate(greenlets):
        assert g.switch(n) == "bottom"
    assert [g.switch(100) for g in greenlets] == [100 + n for n in range(20)]
