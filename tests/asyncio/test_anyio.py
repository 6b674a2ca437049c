"""anyio and its plugin for pytest on the loop."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from scripts import SCRIPT_TIMEOUT

pytest.importorskip("anyio")

HERE = Path(__file__).resolve().parent


def test_anyio() -> None:
    import anyio_program

    anyio_program.run()


def test_anyio_patched(run_script: Any) -> None:
    script = HERE / "anyio_program.py"
    assert run_script(script, dropin=False).check_quiet() == "done\n"


TESTS = """
    import asyncio
    import time

    import anyio
    import pytest

    import greenloop
    import greenloop.asyncio

    pytestmark = pytest.mark.anyio


    @pytest.fixture(scope="module")
    def anyio_backend():
        return "asyncio", {"loop_factory": greenloop.asyncio.new_event_loop}


    @pytest.fixture(scope="module")
    async def port():
        async def echo(stream):
            async with stream:
                async for data in stream:
                    await stream.send(data)

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            yield listener.extra(anyio.abc.SocketAttribute.local_port)
            group.cancel_scope.cancel()


    @pytest.fixture
    async def stream(port):
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            yield stream


    @pytest.mark.parametrize("number", range(5))
    async def test_echo(stream, number):
        assert isinstance(asyncio.get_running_loop(), greenloop.asyncio.EventLoop)
        await stream.send(b"%d" % number)
        assert await stream.receive() == b"%d" % number


    async def test_greenlets(stream):
        def work():
            greenloop.sleep(0.001)
            return greenloop.asyncio.wait(stream.send(b"from a greenlet"), loop=loop)

        loop = asyncio.get_running_loop()
        await greenloop.spawn(work)
        assert await stream.receive() == b"from a greenlet"


    async def test_that_blocks():
        (time.sleep if PATCHED else greenloop.sleep)(0.01)
        with pytest.raises(TimeoutError), anyio.fail_after(0.001):
            await anyio.sleep_forever()


    @pytest.mark.xfail(strict=True)
    async def test_that_fails(stream):
        raise ValueError
"""


@pytest.mark.parametrize("patched", [True, False])
def test_the_plugin_for_pytest(patched: bool, tmp_path: Path) -> None:
    patch = "from greenloop import monkey\nmonkey.patch_all()\n" if patched else ""
    (tmp_path / "conftest.py").write_text(patch)
    (tmp_path / "test_here.py").write_text(f"PATCHED = {patched}\n" + dedent(TESTS))
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", tmp_path],
        capture_output=True,
        check=False,
        encoding="utf-8",
        timeout=SCRIPT_TIMEOUT,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "7 passed, 1 xfailed" in found.stdout
