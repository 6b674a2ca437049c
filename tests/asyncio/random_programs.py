"""Random programs of tasks and greenlets that wait for, cancel and time out each other.

An *actor* is a task or a greenlet with a list of operations. Its program is written once, as a
coroutine: a greenlet runs it to its end in one go, for there nothing that it awaits suspends, but
blocks. In the third kind of actors, which says what the other two have to do, everything is a task
on the standard loop, and what is particular to greenlets and to blocking calls is spelled out in
terms of tasks.

What happens must not depend on who is first. So a director opens one gate at a time, or ends one
actor, and goes on when nothing can happen any more by itself. It knows that from what each actor
says that it waits for, and so finds who should have been woken and was not.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import greenloop
from greenloop.asyncio import to_async, wait, wrap
from greenloop.event import Event

#: Seconds that no program takes.
LONG = 60.0
#: Seconds after which a wait for what never comes is given up.
SHORT = 0.002
#: Seconds after which the director takes the program to hang.
HANGS = 30.0
NEVER = "never"
#: What programs consist of, each as often as it stands here.
OPERATIONS = (
    *("yield", "own gate", "gate", "join", "join", "child", "child"),
    *("timeout", "within", "cancel", "cancel", "raise"),
)


class Failure(Exception):
    """What actors raise."""


class OthersCancelled(asyncio.CancelledError):
    """Where greenlets are tasks: not the actor was ended, but the one that it waited for."""


@dataclass(frozen=True)
class Op:
    """One operation.

    what: "yield", "gate", "join", "child", "timeout", "within", "cancel" or "raise".
    name: of the gate or actor that it is about.
    style: which of several ways to do it.
    catch: what to do with an exception: "no", "clean" (go on for a while, raise it) or "catch".
    """

    what: str
    name: str = ""
    style: str = ""
    catch: str = "no"
    kind: str = ""
    ops: tuple[Op, ...] = ()

    def __str__(self) -> str:
        inner = f" {self.kind}[{'; '.join(map(str, self.ops))}]" if self.ops else ""
        return f"{self.what} {self.name} {self.style} {self.catch}{inner}"


@dataclass(frozen=True)
class Program:
    """The actors that there are from the beginning: kinds and operations."""

    seed: int
    actors: dict[str, tuple[str, tuple[Op, ...]]]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}"]
        for name, (kind, ops) in self.actors.items():
            lines += [f"{name}: {kind}", *(f"    {op}" for op in ops)]
        return "\n".join(lines)


class Writer:
    """Writes a random program."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.gates = 0

    def program(self) -> Program:
        names = [f"a{number}" for number in range(self.random.randint(2, 7))]
        actors = {}
        for number, name in enumerate(names):
            kind = self.kind()
            # Whoever waits for another comes before it: nobody waits for himself.
            ops = self.ops(kind, names, number, self.random.randint(1, 5))
            actors[name] = kind, (self.own_gate(kind, blocking=False), *ops)
        return Program(self.seed, actors)

    def kind(self) -> str:
        return self.random.choice(["task", "greenlet"])

    def catch(self) -> str:
        return self.random.choice(["no", "no", "clean", "catch"])

    def own_gate(self, kind: str, *, blocking: bool) -> Op:
        """A gate that nobody else waits at."""
        self.gates += 1
        return self.gate(kind, f"g{self.gates}", blocking)

    def gate(self, kind: str, name: str, blocking: bool) -> Op:
        styles = ["own", "bridge"]
        if blocking and kind == "task":
            styles += ["block", "nested"]
        return Op("gate", name, self.random.choice(styles), self.catch())

    def ops(self, kind: str, names: list[str], number: int, count: int) -> tuple[Op, ...]:
        made: list[Op] = []
        for _ in range(count):
            made += self.some(kind, names, number)
        return tuple(made)

    def some(self, kind: str, names: list[str], number: int) -> list[Op]:
        choose = self.random.choice
        later = names[number + 1 :]
        what = choose(OPERATIONS)
        styles = ["own", "bridge"]
        if what == "yield":
            return [Op("yield", catch=self.catch())]
        if what == "own gate":
            return [self.own_gate(kind, blocking=True)]
        if what == "join" and later:
            return [Op("join", choose(later), choose(styles), self.catch())]
        if what == "child":
            child = self.kind()
            inner = self.ops(child, names, number, self.random.randint(0, 2))
            if kind == "task" and self.random.random() < 0.3:
                # A cancellation that came meanwhile has to have arrived before anything else can
                # be ended by it.
                call = Op("child", "", "block", self.catch(), child, inner)
                return [call, self.own_gate(kind, blocking=False)]
            return [Op("child", "", choose(styles), self.catch(), child, inner)]
        if what == "timeout":
            child = self.kind()
            style = choose(["within", "wait"])
            return [Op("timeout", "", style, self.catch(), child, self.endless(child, 0))]
        if what == "within":
            return [Op("within", catch=self.catch(), ops=tuple(self.some(kind, names, number)))]
        if what == "cancel":
            # At its gate it waits until everybody has come to rest, and after that again.
            before, after = (self.own_gate(kind, blocking=b) for b in (True, False))
            catches = Op(before.what, before.name, before.style, "catch")
            return [catches, Op("cancel", choose(names)), after]
        if what == "raise" and self.random.random() < 0.3:
            return [Op("raise", str(self.random.randint(0, 9)))]
        return [self.gate(kind, choose(["p1", "p2"]), False)]

    def endless(self, kind: str, depth: int) -> tuple[Op, ...]:
        """Operations of an actor that does not end before it is ended."""
        if depth < 3 and self.random.random() < 0.4:
            child = self.kind()
            inner = self.endless(child, depth + 1)
            return (Op("child", "", "bridge", self.catch(), child, inner), Op("yield"))
        return (self.gate(kind, NEVER, False), Op("yield"))


class Gate:
    """What tasks and greenlets wait at."""

    def __init__(self) -> None:
        self.open = False
        self.for_tasks = asyncio.Event()
        self.for_greenlets = Event()

    def let_through(self) -> None:
        self.open = True
        self.for_tasks.set()
        self.for_greenlets.set()


@dataclass
class Wait:
    """What an actor waits for.

    ready: whether it should have come.
    text: for messages. gate: the gate's name, if it is one.
    holds: whether the actor is not to be ended before it has come.
    lasts: whether an actor that is ended waits on, until what it waits for has ended.
    ends: who is ended with it.
    """

    ready: Callable[[], bool]
    text: str
    gate: str = ""
    holds: bool = False
    lasts: bool = False
    ends: Actor | None = None


class Actor:
    """A task or greenlet."""

    kind: str

    def __init__(self, stage: Stage, name: str, ops: tuple[Op, ...]) -> None:
        self.stage = stage
        self.name = name
        self.ops = ops
        self.trace: list[str] = []
        self.children = 0
        self.timers = 0
        #: Whether it will be ended by somebody's timeout.
        self.brief = False
        self.waits: Wait | None = None
        #: Ended, and not yet told.
        self.hit = False
        #: To be told when it next waits.
        self.pending = False
        self.handle: Any = None

    # --- what the director knows

    def done(self) -> bool:
        raise NotImplementedError

    def at_rest(self) -> bool:
        """Whether nothing will happen to it by itself."""
        if self.done():
            return True
        if self.waits is None or self.timers or self.brief:
            return False
        return not self.waits.ready() and (not self.hit or self.waits.lasts)

    def __str__(self) -> str:
        state = "done" if self.done() else f"waits for {self.waits and self.waits.text}"
        return f"{self.name}: {self.kind}, {state}, hit {self.hit}, pending {self.pending}"

    def reach(self) -> None:
        """Note that the actor is ended."""
        if self.done():
            return
        waits = self.waits
        if waits is None or waits.holds:
            self.pending = True
            return
        self.hit = True
        if waits.ends is not None:
            waits.ends.reach()

    @contextlib.contextmanager
    def waiting(self, waits: Wait) -> Iterator[None]:
        self.waits = waits
        if self.pending and not waits.holds:
            self.pending = False
            self.reach()
        try:
            yield
        finally:
            self.waits = None
            self.hit = False

    # --- its program

    async def play(self) -> str:
        await self.do_all(self.ops)
        return f"{len(self.trace)} of {self.name}"

    async def do_all(self, ops: tuple[Op, ...]) -> None:
        for op in ops:
            try:
                said = await self.do(op)
            except (Failure, TimeoutError, asyncio.CancelledError, greenloop.GreenletExit) as error:
                self.trace.append(f"{op.what} {op.name}: {self.text_of(error)}")
                if op.catch == "clean":
                    await self.give_way()
                if op.catch != "catch":
                    raise
            else:
                self.trace.append(f"{op.what} {op.name}: {said}")

    async def do(self, op: Op) -> str:
        if op.what == "yield":
            await self.give_way()
        elif op.what == "gate":
            gate = self.stage.gate(op.name)
            if op.name == NEVER:
                self.stage.came_far.add(self.name)
            if not gate.open:
                holds = op.style in ("block", "nested")
                waits = Wait(lambda: gate.open, f"{op.name} ({op.style})", op.name, holds)
                with self.waiting(waits):
                    await self.pass_gate(gate, op.style)
        elif op.what == "join":
            return await self.join(self.stage.actors[op.name], op.style)
        elif op.what == "child":
            return await self.join(self.child(op), op.style)
        elif op.what == "timeout":
            await self.give_way()
            child = self.child(op)
            self.timers += 1
            try:
                return await self.join_shortly(child, op.style)
            finally:
                self.timers -= 1
                self.stage.note_timeout(child)
        elif op.what == "within":
            await self.within(self.do_all(op.ops))
        elif op.what == "cancel":
            if self.pending or not self.trace[-1].endswith(": done"):
                # Two that are ended at once might meet, and what comes of that is open: as here, if
                # nobody has come to rest because the actor was ended itself at its gate.
                return "spared"
            self.stage.actors[op.name].end()
        else:
            raise Failure(op.name)
        return "done"

    def child(self, op: Op) -> Actor:
        self.children += 1
        child = self.stage.start(f"{self.name}.{self.children}", op.kind, op.ops)
        child.brief = self.brief or op.what == "timeout"
        return child

    async def join(self, other: Actor, style: str) -> str:
        return await self.result_of(other, style)

    def joining(self, other: Actor, **how: Any) -> contextlib.AbstractContextManager[None]:
        """What the director is told of a wait for another actor."""
        if other.done():
            return contextlib.nullcontext()
        return self.waiting(Wait(other.done, other.name, **how))

    # --- how it is done

    def begin(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError

    def outcome(self) -> str:
        raise NotImplementedError

    def text_of(self, error: BaseException) -> str:
        if isinstance(error, greenloop.GreenletExit):
            return "ended"
        if isinstance(error, asyncio.CancelledError):
            return "cancelled"
        if isinstance(error, TimeoutError):
            return "timed out"
        return f"failed {error}"

    async def give_way(self) -> None:
        raise NotImplementedError

    async def pass_gate(self, gate: Gate, style: str) -> None:
        raise NotImplementedError

    async def result_of(self, other: Actor, style: str) -> str:
        raise NotImplementedError

    async def join_shortly(self, other: Actor, style: str) -> str:
        raise NotImplementedError

    async def within(self, play: Coroutine[Any, Any, None]) -> None:
        raise NotImplementedError


class AnyTask(Actor):
    """What is the same for a task of ours and one that stands for an actor."""

    def begin(self) -> None:
        self.handle = self.stage.loop.create_task(self.play(), name=self.name)

    def end(self) -> None:
        self.reach()
        self.handle.cancel()

    def done(self) -> bool:
        return self.handle is not None and self.handle.done()

    def outcome(self) -> str:
        if self.handle.cancelled():
            return "cancelled"
        error = self.handle.exception()
        return self.handle.result() if error is None else self.text_of(error)

    async def give_way(self) -> None:
        self.pending = False
        for _ in range(2):
            await asyncio.sleep(0)

    async def join_shortly(self, other: Actor, style: str) -> str:
        if style == "wait":
            return await asyncio.wait_for(self.result_of(other, "own"), SHORT)
        async with asyncio.timeout(SHORT):
            return await self.result_of(other, "own")

    async def within(self, play: Coroutine[Any, Any, None]) -> None:
        async with asyncio.timeout(LONG):
            await play


class Task(AnyTask):
    """A task beside greenlets."""

    kind = "task"

    async def pass_gate(self, gate: Gate, style: str) -> None:
        if style == "own":
            await gate.for_tasks.wait()
        elif style == "bridge":
            await to_async(gate.for_greenlets.wait)()
        elif style == "block":
            gate.for_greenlets.wait()
        else:
            wait(gate.for_tasks.wait())

    async def result_of(self, other: Actor, style: str) -> str:
        if style == "block":
            with self.joining(other, holds=True):
                return blocking_result(other.handle)
        with self.joining(other, ends=other, lasts=True):
            if style == "bridge" and other.kind == "greenlet":
                return await wrap(other.handle)
            return await other.handle


class Greenlet(Actor):
    """A greenlet beside tasks."""

    kind = "greenlet"

    def begin(self) -> None:
        self.handle = greenloop.spawn(lambda: finish(self.play()))

    def end(self) -> None:
        self.reach()
        self.handle.kill(block=False)

    def done(self) -> bool:
        return self.handle is not None and self.handle.ready()

    def outcome(self) -> str:
        error = self.handle.exception
        if error is None and not isinstance(self.handle.value, greenloop.GreenletExit):
            return str(self.handle.value)
        if error is None or isinstance(error, asyncio.CancelledError):
            return "cancelled"
        return self.text_of(error)

    async def give_way(self) -> None:
        self.pending = False
        for _ in range(2):
            greenloop.sleep(0)

    async def pass_gate(self, gate: Gate, style: str) -> None:
        if style == "own":
            gate.for_greenlets.wait()
        else:
            wait(gate.for_tasks.wait(), loop=self.stage.loop)

    async def result_of(self, other: Actor, style: str) -> str:
        if other.kind == "greenlet" and style == "own":
            with self.joining(other):
                return blocking_result(other.handle)
        with self.joining(other, ends=other):
            return wait(self.future_of(other), LONG if style == "bridge" else None)

    def future_of(self, other: Actor) -> asyncio.Future[str]:
        if other.kind == "greenlet":
            return wrap(other.handle, loop=self.stage.loop)
        future: asyncio.Future[str] = other.handle
        return future

    async def join_shortly(self, other: Actor, style: str) -> str:
        if style == "wait":
            with self.joining(other):
                return wait(self.future_of(other), SHORT)
        with greenloop.Timeout(SHORT, TimeoutError), self.joining(other):
            return wait(self.future_of(other))

    async def within(self, play: Coroutine[Any, Any, None]) -> None:
        with greenloop.Timeout(LONG):
            await play


def blocking_result(handle: Any) -> str:
    """What a task or greenlet returns, for who waits as greenlets do."""
    if isinstance(handle, asyncio.Future):
        return wait(handle)
    value: Any = handle.get()
    if isinstance(value, greenloop.GreenletExit):
        raise asyncio.CancelledError
    return str(value)


def finish(program: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in which nothing suspends."""
    try:
        program.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it was to block, not to suspend")


class StandIn(AnyTask):
    """A task for an actor of either kind, on the standard loop."""

    def __init__(self, stage: Stage, name: str, ops: tuple[Op, ...], kind: str) -> None:
        super().__init__(stage, name, ops)
        self.kind = kind

    def text_of(self, error: BaseException) -> str:
        own = isinstance(error, asyncio.CancelledError) and not isinstance(error, OthersCancelled)
        return "ended" if own and self.kind == "greenlet" else super().text_of(error)

    async def pass_gate(self, gate: Gate, style: str) -> None:
        if style in ("block", "nested"):
            await undisturbed(asyncio.ensure_future(gate.for_tasks.wait()))
        else:
            await gate.for_tasks.wait()

    async def result_of(self, other: Actor, style: str) -> str:
        if style == "block":
            with self.joining(other, holds=True):
                if not other.done():
                    await undisturbed(other.handle)
            return others_result(other.handle)
        if self.kind == "task":
            with self.joining(other, ends=other, lasts=True):
                return await other.handle
        ends = other if other.kind == "task" or style == "bridge" else None
        with self.joining(other, ends=ends):
            return await self.alone(other, ends is not None, None)

    async def alone(self, other: Actor, ends: bool, timeout: float | None) -> str:
        """Wait as greenlets do: whoever is ended does not wait for what he ends with him."""
        try:
            if not other.done():
                await asyncio.wait([other.handle], timeout=timeout)
        except asyncio.CancelledError:
            if ends:
                other.handle.cancel()
            raise
        if not other.done():
            other.handle.cancel()
            raise TimeoutError
        return others_result(other.handle)

    async def join_shortly(self, other: Actor, style: str) -> str:
        if self.kind == "task":
            return await super().join_shortly(other, style)
        with self.joining(other):
            try:
                return await self.alone(other, True, SHORT)
            except TimeoutError:
                if style != "wait":
                    raise
                await asyncio.wait([other.handle])
                if other.handle.cancelled():
                    raise
                return others_result(other.handle)


def others_result(task: asyncio.Task[str]) -> str:
    if task.cancelled():
        raise OthersCancelled
    return task.result()


async def undisturbed(future: asyncio.Future[Any]) -> None:
    """Wait as a blocking call in a task does: a cancellation is for what it awaits next."""
    task = asyncio.current_task()
    assert task is not None
    cancelled = False
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            task.uncancel()
            cancelled = True
    if cancelled:
        task.cancel()


def running_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


@dataclass
class Result:
    """What has happened: what each actor did and became, and what the director did.

    too_soon: whether the machine was so slow that somebody's time was over before it should.
    """

    actors: dict[str, tuple[list[str], str]]
    steps: list[str]
    too_soon: bool


@dataclass
class Stage:
    """Where a program runs.

    make: makes an actor. pause: lets the others go on for so many seconds.
    """

    program: Program
    loop: asyncio.AbstractEventLoop
    make: Callable[[Stage, str, str, tuple[Op, ...]], Actor]
    pause: Callable[[float], Coroutine[Any, Any, None]]
    actors: dict[str, Actor] = field(default_factory=dict)
    gates: dict[str, Gate] = field(default_factory=dict)
    #: Who has come to where it waits for ever.
    came_far: set[str] = field(default_factory=set)
    #: Whether a timeout was over before.
    too_soon: bool = False
    #: What the director has done.
    steps: list[str] = field(default_factory=list)

    def gate(self, name: str) -> Gate:
        return self.gates.setdefault(name, Gate())

    def start(self, name: str, kind: str, ops: tuple[Op, ...]) -> Actor:
        actor = self.make(self, name, kind, ops)
        self.actors[name] = actor
        actor.begin()
        return actor

    def note_timeout(self, child: Actor) -> None:
        """Note that a timeout is over that was meant for an actor and all that it waits for."""
        if not any(name.startswith(child.name) for name in self.came_far):
            self.too_soon = True

    def begin(self) -> None:
        self.deadline = time.monotonic() + HANGS
        self.random = random.Random(self.program.seed)
        for name, (kind, ops) in self.program.actors.items():
            self.start(name, kind, ops)

    def check_time(self, what: str) -> None:
        if time.monotonic() > self.deadline:
            raise AssertionError(self.told(what))

    def told(self, what: str) -> str:
        states = "\n".join(map(str, self.actors.values()))
        return f"{what}\n{states}\n{self.program}"

    async def direct(self) -> Result:
        """Run the program, one thing at a time; return what each actor did and became."""
        self.begin()
        ended = 0
        while True:
            await self.come_to_rest()
            alive = sorted(name for name, actor in self.actors.items() if not actor.done())
            if not alive:
                break
            gates = sorted(self.waited_at())
            assert gates, self.told("nobody waits at a gate")
            if ended < 4 and self.random.random() < 0.15:
                ended += 1
                name = self.random.choice(alive)
                self.steps.append(f"end {name}")
                self.actors[name].end()
            else:
                name = self.random.choice(gates)
                self.steps.append(f"open {name}")
                self.gate(name).let_through()
        result = {name: (actor.trace, actor.outcome()) for name, actor in self.actors.items()}
        return Result(result, self.steps, self.too_soon)

    async def storm(self) -> None:
        """Run the program, with everything at once."""
        self.begin()
        while alive := [actor for actor in self.actors.values() if not actor.done()]:
            self.check_time("not over")
            for name in self.waited_at():
                if self.random.random() < 0.4:
                    self.gate(name).let_through()
            if self.random.random() < 0.2:
                self.random.choice(alive).end()
            await self.pause(self.random.choice([0, 0, 0, SHORT]))
        for actor in self.actors.values():
            actor.outcome()

    async def check_left(self) -> None:
        """See that no task is left but the one that asks, if it is one."""
        # What a greenlet was ended in the middle of ends a little later than the greenlet.
        while any(task is not running_task() for task in asyncio.all_tasks(self.loop)):
            self.check_time(f"tasks left: {asyncio.all_tasks(self.loop)}")
            await self.pause(0)

    async def come_to_rest(self) -> None:
        rounds = 0
        while not all(actor.at_rest() for actor in self.actors.values()):
            self.check_time("somebody was not woken")
            rounds += 1
            await self.pause(0 if rounds % 20 else SHORT)

    def waited_at(self) -> set[str]:
        return {
            actor.waits.gate
            for actor in self.actors.values()
            if not actor.done() and actor.waits is not None and actor.waits.gate not in ("", NEVER)
        }
