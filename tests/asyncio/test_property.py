"""Random programs of tasks and greenlets do what they do on the standard loop, with tasks only."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import pytest
from random_programs import (
    Actor,
    Greenlet,
    Op,
    Program,
    Result,
    Stage,
    StandIn,
    Task,
    Writer,
    finish,
)

import greenloop
import greenloop.asyncio
from greenloop.asyncio import wait

#: How many programs each test runs: more of them to look for faults.
PROGRAMS = int(os.environ.get("GREENLOOP_TEST_PROGRAMS", "60"))
#: The last ones have found faults.
SEEDS = [*range(PROGRAMS), 1197, 1275, 1661]

Direct = Callable[[Stage], Coroutine[Any, Any, Any]]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Greenlets that fail are part of the programs."""
    hub = greenloop.get_hub()
    before = hub.exception_stream
    hub.exception_stream = None
    yield
    hub.exception_stream = before


def stand_in(stage: Stage, name: str, kind: str, ops: tuple[Op, ...]) -> Actor:
    return StandIn(stage, name, ops, kind)


def real(stage: Stage, name: str, kind: str, ops: tuple[Op, ...]) -> Actor:
    return Task(stage, name, ops) if kind == "task" else Greenlet(stage, name, ops)


async def in_task(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def in_greenlet(seconds: float) -> None:
    greenloop.sleep(seconds)


def with_stand_ins(program: Program, factory: Callable[[], Any], direct: Direct) -> Any:
    async def main() -> Any:
        stage = Stage(program, asyncio.get_running_loop(), stand_in, in_task)
        return await direct(stage)

    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


async def play(direct: Direct, stage: Stage) -> Any:
    result = await direct(stage)
    await stage.check_left()
    return result


def directed_by_a_task(program: Program, direct: Direct) -> Any:
    async def main() -> Any:
        return await play(direct, Stage(program, asyncio.get_running_loop(), real, in_task))

    return greenloop.asyncio.run(main())


def directed_by_a_greenlet(program: Program, direct: Direct) -> Any:
    """In a greenlet beside the loop."""
    loop = greenloop.asyncio.new_event_loop()
    running = greenloop.spawn(loop.run_forever)
    try:
        return finish(play(direct, Stage(program, loop, real, in_greenlet)))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        running.join()
        loop.close()


def in_the_loop_of_the_hub(program: Program, direct: Direct) -> Any:
    async def loop_of_hub() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    return finish(play(direct, Stage(program, wait(loop_of_hub()), real, in_greenlet)))


WAYS = [directed_by_a_task, directed_by_a_greenlet, in_the_loop_of_the_hub]


def living_greenlets() -> set[int]:
    gc.collect()
    found = (thing for thing in gc.get_objects() if isinstance(thing, greenloop.Greenlet))
    return {id(greenlet) for greenlet in found if not greenlet.ready()}


def in_time(play: Callable[[], Result]) -> Result:
    """The result of a run in which nobody's time was over too soon."""
    for _ in range(100):
        result = play()
        if not result.too_soon:
            return result
    raise AssertionError("the machine is too slow")


def expected_of(program: Program) -> Result:
    return in_time(partial(with_stand_ins, program, asyncio.SelectorEventLoop, Stage.direct))


@pytest.mark.parametrize("way", WAYS)
def test_the_result_is_that_of_the_standard_loop(way: Callable[..., Any]) -> None:
    before = living_greenlets()
    for seed in SEEDS:
        program = Writer(seed).program()
        found = in_time(partial(way, program, Stage.direct))
        assert found == expected_of(program), str(program)
    assert living_greenlets() <= before


def test_programs_of_tasks_alone() -> None:
    for seed in SEEDS:
        program = Writer(seed).program()
        loop = greenloop.asyncio.new_event_loop
        found = in_time(partial(with_stand_ins, program, loop, Stage.direct))
        assert found == expected_of(program), str(program)


@pytest.mark.parametrize("way", WAYS)
def test_everything_at_once_ends(way: Callable[..., Any]) -> None:
    before = living_greenlets()
    for seed in range(1000, 1000 + PROGRAMS):
        way(Writer(seed).program(), Stage.storm)
    assert living_greenlets() <= before
