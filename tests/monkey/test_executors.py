"""concurrent.futures and asyncio after patching."""

from __future__ import annotations

from typing import Any

import pytest


def test_thread_pool_executor(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import threading, time
        from concurrent.futures import ThreadPoolExecutor, TimeoutError, as_completed, wait

        native = threading.get_native_id()
        barrier = threading.Barrier(4)

        def meet(number):
            assert threading.get_native_id() == native
            barrier.wait(60)
            return number * number

        with ThreadPoolExecutor(4) as executor:
            assert list(executor.map(meet, range(8))) == [n * n for n in range(8)]
            failing = executor.submit(int, "x")
            assert isinstance(failing.exception(), ValueError)
            try:
                failing.result()
            except ValueError:
                pass
            futures = [executor.submit(time.sleep, 0.001) for _ in range(10)]
            assert len(list(as_completed(futures, 60))) == 10
            gate = threading.Event()
            late = executor.submit(gate.wait)
            try:
                late.result(0.01)
            except TimeoutError:
                pass
            assert wait([late], 0.01).not_done == {late}
            gate.set()
            assert late.result() is True
        try:
            executor.submit(int)
        except RuntimeError as error:
            print(error)
        """
    out = run_script(script).check_quiet()
    assert out == "cannot schedule new futures after shutdown\n"


def test_shutdown_cancels_and_waits(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import threading
        from concurrent.futures import ThreadPoolExecutor

        executor = ThreadPoolExecutor(1)
        gate = threading.Event()
        first, second = executor.submit(gate.wait), executor.submit(int)
        executor.shutdown(wait=False, cancel_futures=True)
        assert second.cancelled()
        gate.set()
        executor.shutdown()
        assert first.result()
        """
    run_script(script).check_quiet()


@pytest.mark.parametrize("last", ["idle", "busy"])
def test_the_end_with_an_executor_left(run_script: Any, last: str) -> None:
    script = f"""
        from gevent import monkey; monkey.patch_all()
        import time
        from concurrent.futures import ThreadPoolExecutor

        executor = ThreadPoolExecutor(2)
        executor.submit(int).result()
        if "{last}" == "busy":
            executor.submit(lambda: (time.sleep(0.05), print("finished")))
        print("end")
        """
    out = run_script(script).check_quiet()
    assert out == ("end\nfinished\n" if last == "busy" else "end\n")


def test_asyncio(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import asyncio, threading, time, gevent

        ticks = []

        def tick():
            while not done.is_set():
                ticks.append(1)
                time.sleep(0.001)

        async def echo(reader, writer):
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()

        async def ask(port, text):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(text)
            answer = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return answer

        async def main():
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            answers = await asyncio.gather(*[ask(port, b"text%d\\n" % n) for n in range(10)])
            assert answers == [b"TEXT%d\\n" % n for n in range(10)]
            server.close()
            try:
                await asyncio.wait_for(asyncio.sleep(60), 0.02)
            except asyncio.TimeoutError:
                pass
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            threading.Timer(0.01, loop.call_soon_threadsafe, (future.set_result, "set")).start()
            assert await future == "set"
            addresses = await loop.getaddrinfo("localhost", 80)
            assert addresses

        done = threading.Event()
        other = threading.Thread(target=tick)
        other.start()
        asyncio.run(main())
        done.set()
        other.join()
        assert len(ticks) > 5, ticks
        """
    run_script(script).check_quiet()


def test_asyncio_functions_in_threads_do_not_stall(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import asyncio, concurrent.futures, threading, time

        barrier = threading.Barrier(4)

        def meet(number):
            barrier.wait(60)
            time.sleep(0.001)
            return number

        async def main():
            loop = asyncio.get_running_loop()
            with concurrent.futures.ThreadPoolExecutor(2) as executor:
                results = await asyncio.gather(
                    asyncio.to_thread(meet, 0),
                    loop.run_in_executor(None, meet, 1),
                    loop.run_in_executor(executor, meet, 2),
                    loop.run_in_executor(executor, meet, 3),
                )
            assert results == [0, 1, 2, 3]
            for number in range(100):
                assert await asyncio.to_thread(lambda: number) == number
            called = asyncio.Event()
            await asyncio.to_thread(
                asyncio.run_coroutine_threadsafe, asyncio.sleep(0, called.set()), loop
            )
            await called.wait()

        asyncio.run(main())
        """
    run_script(script).check_quiet()


def test_asyncio_in_two_threads(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import asyncio, threading

        start = monkey.get_original("_thread", "start_new_thread")
        done = threading.Event()

        async def main():
            await asyncio.sleep(0.01)
            return await asyncio.to_thread(int)

        start(lambda: (asyncio.run(main()), done.set()), ())
        assert asyncio.run(main()) == 0
        assert done.wait(60)
        """
    run_script(script).check_quiet()
