"""`switch`: what each form of arguments turns into, and who runs next."""

from __future__ import annotations

from typing import Any

import pytest
from greenlet import getcurrent, greenlet

# (positional, keyword, what the resumed greenlet's own switch() call returns)
FORMS: list[tuple[tuple[Any, ...], dict[str, Any], Any]] = [
    ((), {}, ()),
    ((None,), {}, None),
    ((1,), {}, 1),
    (((),), {}, ()),
    (((1, 2),), {}, (1, 2)),
    (({"a": 1},), {}, {"a": 1}),
    ((1, 2), {}, (1, 2)),
    ((None, None), {}, (None, None)),
    ((1, 2, 3, 4, 5, 6, 7, 8, 9, 10), {}, (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)),
    ((), {"a": 1}, {"a": 1}),
    ((), {"a": 1, "b": 2}, {"a": 1, "b": 2}),
    ((1,), {"a": 2}, ((1,), {"a": 2})),
    ((1, 2), {"a": 3}, ((1, 2), {"a": 3})),
]


@pytest.mark.parametrize(("args", "kwargs", "result"), FORMS)
def test_resumed_greenlet_sees(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
    seen = []

    def body() -> None:
        seen.append(getcurrent().parent.switch())

    g = greenlet(body)
    g.switch()
    g.switch(*args, **kwargs)
    assert seen == [result]
    assert type(seen[0]) is type(result)


@pytest.mark.parametrize(("args", "kwargs", "result"), FORMS)
def test_parent_sees(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
    g = greenlet(lambda: getcurrent().parent.switch(*args, **kwargs))
    assert g.switch() == result


@pytest.mark.parametrize(("args", "kwargs", "result"), FORMS)
def test_current_greenlet_switching_to_itself(
    args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> None:
    assert getcurrent().switch(*args, **kwargs) == result
    assert greenlet(lambda: getcurrent().switch(*args, **kwargs)).switch() == result


@pytest.mark.parametrize(("args", "kwargs", "result"), FORMS)
def test_dead_greenlet_passes_to_its_parent(
    args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> None:
    g = greenlet(lambda: None)
    g.switch()
    assert g.switch(*args, **kwargs) == result


@pytest.mark.parametrize(("args", "kwargs", "result"), FORMS)
def test_first_switch_calls_run_with(
    args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> None:
    del result
    assert greenlet(lambda *a, **k: [a, k]).switch(*args, **kwargs) == [args, kwargs]


@pytest.mark.parametrize("value", [None, (), (1,), (1, 2), {}, {"a": 1}, [1], 0])
def test_return_value_is_passed_as_it_is(value: Any) -> None:
    result = greenlet(lambda: value).switch()
    assert result is value


def test_one_argument_keeps_its_identity() -> None:
    token = object()
    g = greenlet(lambda x: getcurrent().parent.switch(x))
    assert g.switch(token) is token
    assert g.switch(token) is token


def test_many_arguments_come_as_a_fresh_tuple_of_the_same_objects() -> None:
    a, b = object(), object()
    g = greenlet(lambda: getcurrent().parent.switch(a, b))
    got = g.switch()
    assert type(got) is tuple
    assert got[0] is a
    assert got[1] is b


def test_keyword_dict_is_a_copy() -> None:
    given = {"a": 1}
    g = greenlet(lambda: getcurrent().parent.switch(**given))
    got = g.switch()
    assert got == given
    assert got is not given


def test_keywords_named_like_parameters() -> None:
    names = {"self": 1, "args": 2, "kwargs": 3, "run": 4, "parent": 5}
    assert greenlet(lambda **kwargs: kwargs).switch(**names) == names


def test_wrong_arguments_for_run() -> None:
    g = greenlet(lambda a, b: None)
    with pytest.raises(TypeError, match="missing 1 required"):
        g.switch(1)
    assert g.dead


def test_keywords_must_be_strings() -> None:
    g = greenlet(lambda **kwargs: kwargs)
    with pytest.raises(TypeError):
        g.switch(**{1: 2})  # type: ignore[arg-type]


def test_switch_is_a_method_of_greenlets_only() -> None:
    with pytest.raises(TypeError):
        greenlet.switch(3)  # type: ignore[arg-type]


def test_bound_switch_as_a_callback() -> None:
    got = []

    def body() -> None:
        while True:
            got.append(getcurrent().parent.switch())

    g = greenlet(body)
    g.switch()
    resume = g.switch
    for value in range(3):
        resume(value)
    assert got == [0, 1, 2]
    list(map(g.switch, "ab"))
    assert got == [0, 1, 2, "a", "b"]


def test_ping_pong_between_siblings() -> None:
    log: list[str] = []

    def ping() -> str:
        for i in range(3):
            log.append(f"ping {i}")
            pong_greenlet.switch()
        return "ping done"

    def pong() -> None:
        for i in range(3):
            log.append(f"pong {i}")
            ping_greenlet.switch()

    ping_greenlet, pong_greenlet = greenlet(ping), greenlet(pong)
    assert ping_greenlet.switch() == "ping done"
    assert log == ["ping 0", "pong 0", "ping 1", "pong 1", "ping 2", "pong 2"]
    assert ping_greenlet.dead
    assert not pong_greenlet.dead


def test_values_flow_both_ways() -> None:
    def body(first: int) -> str:
        total = first
        while (value := getcurrent().parent.switch(total)) is not None:
            total += value
        return f"total {total}"

    g = greenlet(body)
    assert [g.switch(n) for n in (1, 2, 3, 4)] == [1, 3, 6, 10]
    assert g.switch(None) == "total 10"


def test_child_may_switch_past_its_parent() -> None:
    main = getcurrent()
    log = []

    def middle() -> str:
        log.append(greenlet(lambda: main.switch("straight to main")).switch())
        return "middle done"

    m = greenlet(middle)
    assert m.switch() == "straight to main"
    assert log == []
    assert m.switch("resumed middle") == "middle done"
    assert log == ["resumed middle"]


def test_locals_survive_parking() -> None:
    def body(seed: int) -> list[int]:
        values = [seed]
        for i in range(20):
            local = i * seed
            getcurrent().parent.switch()
            values.append(local)
        return values

    greenlets = [greenlet(body) for _ in range(10)]
    for seed, g in enumerate(greenlets):
        g.switch(seed)
    results: list[Any] = [None] * 10
    for _ in range(20):
        for i, g in enumerate(greenlets):
            results[i] = g.switch()
    assert results == [[s, *(i * s for i in range(20))] for s in range(10)]


def test_parked_deep_in_calls() -> None:
    def descend(n: int) -> int:
        if n == 0:
            return getcurrent().parent.switch("bottom")
        return descend(n - 1) + 1

    greenlets = [greenlet(descend) for _ in range(10)]
    assert [g.switch(depth * 20) for depth, g in enumerate(greenlets)] == ["bottom"] * 10
    assert [g.switch(1000) for g in reversed(greenlets)] == [
        1000 + depth * 20 for depth in reversed(range(10))
    ]


def test_greenlets_nested_in_greenlets() -> None:
    def nest(n: int) -> int:
        return 0 if n == 0 else 1 + greenlet(nest).switch(n - 1)

    assert greenlet(nest).switch(200) == 200


def test_getcurrent() -> None:
    main = getcurrent()
    seen = []

    def body() -> None:
        seen.append(getcurrent())
        main.switch()
        seen.append(greenlet.getcurrent())

    g = greenlet(body)
    g.switch()
    assert getcurrent() is main
    g.switch()
    assert seen == [g, g]
    assert greenlet.getcurrent() is main


def test_getcurrent_takes_no_arguments() -> None:
    with pytest.raises(TypeError):
        getcurrent(1)  # type: ignore[call-arg]
