"""Real servers, and checks that run in patched processes of their own."""

from __future__ import annotations

import importlib.machinery
import json
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from control import HOST, ControlServer, Gates, Proxy, serving
from own_servers import HANDLERS, grpc_server, own_server

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tools"))

import servers  # noqa: E402


@pytest.fixture(scope="session")
def started() -> Iterator[Callable[[str], servers.Server]]:
    """A function that gives one of the real servers, which is started when first asked for."""
    with ExitStack() as stack:
        known: dict[str, servers.Server | servers.ServerError] = {}

        def start(name: str) -> servers.Server:
            if name not in known:
                try:
                    known[name] = stack.enter_context(servers.running(name))
                except servers.ProgramMissingError as error:
                    known[name] = error
            found = known[name]
            if isinstance(found, servers.ServerError):
                pytest.skip(str(found))
            return found

        yield start


@pytest.fixture
def control() -> Iterator[ControlServer]:
    """What checks are told by."""
    server = ControlServer(Gates())
    with serving(server):
        yield server


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context, and the file with the authority's certificate."""
    made = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert(HOST).configure_cert(context)
    file = tmp_path_factory.mktemp("authority") / "authority.pem"
    made.cert_pem.write_to_path(str(file))
    return context, file


@pytest.fixture
def where(
    started: Callable[[str], servers.Server],
    control: ControlServer,
    authority: tuple[ssl.SSLContext, Path],
) -> Iterator[Callable[..., dict[str, Any]]]:
    """A function that starts a server, of the tests' own or real, and says where it is."""
    with ExitStack() as stack:

        def find(name: str, *, proxy: bool = False, tls: bool = False) -> dict[str, Any]:
            more = {}
            if name in (*HANDLERS, "dns"):
                direct = stack.enter_context(own_server(name, control.gates))
            elif name == "grpc":
                direct = stack.enter_context(grpc_server(control.server_address[1]))
            else:
                server = started(name)
                direct = server.port
                more = {
                    "directory": str(server.directory),
                    "url": server.url,
                    "user": urlsplit(server.url).username or "",
                }
            port = direct
            if tls:
                more["authority"] = str(authority[1])
            if proxy or tls:
                control.proxy = Proxy(direct, authority[0] if tls else None)
                stack.callback(control.proxy.stop)
                port = control.proxy.port
            return {
                "port": port,
                "direct": direct,
                "control": control.server_address[1],
                "more": more,
            }

        yield find


@pytest.fixture
def check(run_script: Any, where: Any) -> Callable[..., None]:
    """A function that runs a check with a library against a server."""

    def run(
        library: str,
        name: str,
        server: str,
        *,
        needs: str,
        dropin: bool = True,
        proxy: bool = False,
        tls: bool = False,
        env: dict[str, str] | None = None,
    ) -> None:
        # What this process may have imported says nothing: kombu has no __spec__ then.
        if importlib.machinery.PathFinder.find_spec(needs) is None:
            pytest.skip(f"could not import {needs!r}: not installed")
        told = json.dumps(where(server, proxy=proxy, tls=tls))
        script = HERE / "run_check.py"
        # The environment may name proxies.
        env = {"no_proxy": HOST, "NO_PROXY": HOST, **(env or {})}
        result = run_script(script, library, name, told, dropin=dropin, env=env)
        assert result.check_quiet() == "passed\n"

    return run
