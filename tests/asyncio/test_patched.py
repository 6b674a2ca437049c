"""asyncio's own event loops in greenlets, with the standard library patched; and import orders."""

from __future__ import annotations

from typing import Any


def test_many_runs_at_once(run_script: Any) -> None:
    script = """
        from gevent import monkey
        monkey.patch_all()
        import asyncio, contextvars, gevent, time

        var = contextvars.ContextVar("var")
        meeting = gevent.event.Event()
        here = set()

        async def child(loop, n):
            me = asyncio.current_task()
            assert var.get() == n
            for _ in range(3):
                time.sleep(0.001)
                assert (asyncio.get_running_loop(), asyncio.current_task()) == (loop, me)
                await asyncio.sleep(0.001)
                assert (asyncio.get_running_loop(), asyncio.current_task()) == (loop, me)
            return n

        async def main(n):
            loop, me = asyncio.get_running_loop(), asyncio.current_task()
            var.set(n)
            here.add(loop)
            # In the middle of a step, and nobody goes on before all are here.
            if len(here) == 20:
                meeting.set()
            meeting.wait()
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(child(loop, n)) for _ in range(3)]
            assert [task.result() for task in tasks] == [n] * 3
            try:
                async with asyncio.timeout(0.005):
                    await asyncio.sleep(60)
            except TimeoutError:
                pass
            else:
                raise AssertionError
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"text\\n")
            assert await reader.readline() == b"text\\n"
            writer.close()
            await writer.wait_closed()
            server.close()
            assert asyncio.current_task() is me
            return n

        async def echo(reader, writer):
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()

        greenlets = [gevent.spawn(asyncio.run, main(n)) for n in range(20)]
        gevent.joinall(greenlets, raise_error=True)
        assert [g.value for g in greenlets] == list(range(20))
        assert len(here) == 20
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            print("done")
        """
    assert run_script(script).check_quiet() == "done\n"


def test_a_blocking_call_stops_its_own_loop_only(run_script: Any) -> None:
    script = """
        from gevent import monkey
        monkey.patch_all()
        import asyncio, gevent, queue

        order = queue.Queue()

        async def waits():
            asyncio.get_running_loop().call_soon(order.put, "never before")
            return [order.get() for _ in range(3)]

        async def goes_on():
            for n in range(3):
                await asyncio.sleep(0.001)
                order.put(n)

        first = gevent.spawn(asyncio.run, waits())
        gevent.spawn(asyncio.run, goes_on()).get()
        assert first.get() == [0, 1, 2]
        assert order.get() == "never before"
        print("done")
        """
    assert run_script(script).check_quiet() == "done\n"


def test_killed_while_it_runs_a_loop(run_script: Any) -> None:
    script = """
        from gevent import monkey
        monkey.patch_all()
        import asyncio, gevent

        loops = []

        async def main():
            loops.append(asyncio.get_running_loop())
            try:
                await asyncio.sleep(60)
            finally:
                assert asyncio.get_running_loop() is loops[-1]

        g = gevent.spawn(asyncio.run, main())
        while not loops:
            gevent.sleep(0.001)
        g.kill()
        assert isinstance(g.value, gevent.GreenletExit)
        assert loops[0].is_closed()
        asyncio.run(asyncio.sleep(0))
        print("done")
        """
    assert run_script(script).check_quiet() == "done\n"


def test_asyncio_is_not_imported(run_script: Any) -> None:
    script = """
        import sys
        import gevent, greenlet
        gevent.spawn(int).join()
        assert "asyncio" not in sys.modules and "_asyncio" not in sys.modules
        print("done")
        """
    assert run_script(script).check_quiet() == "done\n"


def test_imported_after_greenlets_have_run(run_script: Any) -> None:
    script = """
        import gevent, greenlet
        gevent.spawn(int).join()
        parked = greenlet.greenlet(lambda: greenlet.getcurrent().parent.switch())
        parked.switch()
        import asyncio

        def park():
            loop = asyncio.get_running_loop()
            greenlet.getcurrent().parent.switch()
            assert asyncio.get_running_loop() is loop

        async def main():
            loop, me = asyncio.get_running_loop(), asyncio.current_task()
            g = greenlet.greenlet(park)
            g.switch()
            gevent.sleep(0)
            g.switch()
            assert g.dead
            assert (asyncio.get_running_loop(), asyncio.current_task()) == (loop, me)

        gevent.joinall([gevent.spawn(asyncio.run, main()) for _ in range(3)], raise_error=True)
        parked.switch()
        assert parked.dead
        print("done")
        """
    assert run_script(script).check_quiet() == "done\n"


def test_greenlets_first_used_within_a_running_loop(run_script: Any) -> None:
    script = """
        import asyncio, sys, threading
        captured = asyncio._set_running_loop

        async def main():
            from greenlet import getcurrent, greenlet
            import gevent

            here = asyncio.get_running_loop(), asyncio.current_task()

            def sync():
                assert (asyncio.get_running_loop(), asyncio.current_task()) == here
                captured(None)
                getcurrent().parent.switch()
                try:
                    asyncio.get_running_loop()
                except RuntimeError:
                    captured(here[0])

            g = greenlet(sync)
            g.switch()
            assert (asyncio.get_running_loop(), asyncio.current_task()) == here
            g.switch()
            assert g.dead
            assert (asyncio.get_running_loop(), asyncio.current_task()) == here
            gevent.spawn(asyncio.run, asyncio.sleep(0)).get()
            assert (asyncio.get_running_loop(), asyncio.current_task()) == here

        asyncio.run(main())
        thread = threading.Thread(target=asyncio.run, args=(main(),))
        thread.start()
        thread.join()
        print("done")
        """
    assert run_script(script).check_quiet() == "done\n"
