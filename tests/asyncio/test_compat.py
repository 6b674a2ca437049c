"""The names of asyncio-gevent under the drop-in."""

from __future__ import annotations

import asyncio

import asyncio_gevent
import gevent
import pytest

from greenloop.asyncio import run


def work(number: int) -> int:
    gevent.sleep(0.001)
    return number


async def work_async(number: int) -> int:
    await asyncio.sleep(0.001)
    return number


def test_greenlets_as_futures() -> None:
    async def main() -> None:
        assert await asyncio_gevent.greenlet_to_future(gevent.spawn(work, 1)) == 1
        assert await asyncio_gevent.greenlet_to_future(gevent.Greenlet(work, 2)) == 2
        greenlet = gevent.Greenlet(work, 3)
        future = asyncio_gevent.greenlet_to_future(greenlet, autostart_greenlet=False)
        await asyncio.sleep(0.003)
        assert not greenlet.started
        greenlet.start()
        assert await future == 3

    run(main())


def test_killed_and_cancelled() -> None:
    async def main() -> None:
        greenlet = gevent.spawn(gevent.sleep, 60)
        gevent.spawn_later(0.001, greenlet.kill)
        with pytest.raises(asyncio.CancelledError):
            await asyncio_gevent.greenlet_to_future(greenlet)
        greenlet = gevent.spawn(gevent.sleep, 60)
        gevent.spawn_later(0.001, greenlet.kill)
        future = asyncio_gevent.greenlet_to_future(greenlet, autocancel_future=False)
        assert isinstance(await future, gevent.GreenletExit)
        greenlet = gevent.spawn(gevent.sleep, 60)
        future = asyncio_gevent.greenlet_to_future(greenlet, autokill_greenlet=False)
        await asyncio.sleep(0)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        await asyncio.sleep(0.001)
        assert not greenlet.ready()
        greenlet.kill()

    run(main())


def test_futures_as_greenlets() -> None:
    greenlet = asyncio_gevent.future_to_greenlet(work_async(1))
    assert not greenlet.started
    greenlet.start()
    assert greenlet.get() == 1

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        first = asyncio_gevent.future_to_greenlet(future)
        second = asyncio_gevent.future_to_greenlet(future, autokill_greenlet=False)
        first.start()
        second.start()
        await asyncio.sleep(0.001)
        future.cancel()
        await asyncio.sleep(0.001)
        assert isinstance(first.value, gevent.GreenletExit)
        assert isinstance(second.exception, asyncio.CancelledError)

    run(main())


def test_functions() -> None:
    @asyncio_gevent.sync_to_async
    def function(number: int) -> int:
        return work(number)

    @asyncio_gevent.async_to_sync()
    async def coroutine(number: int) -> int:
        return await function(number)

    assert coroutine(4) == 4
    assert run(asyncio_gevent.sync_to_async(work)(5)) == 5
