"""What holds for every client library: calls overlap, and neither timeouts nor breaks harm.

How is said once, in support.py; what is particular to a library stands in `libraries`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import servers
from scripts import TEST_TIMEOUT

# Seconds, as the first test that needs a server starts it too.
pytestmark = pytest.mark.timeout(TEST_TIMEOUT + servers.START_TIMEOUT)


@dataclass
class Needs:
    """What a library is tested with."""

    #: The server that its calls go to.
    server: str
    #: The module that has to be installed.
    module: str
    #: Whether it is tested over TLS too: one library for each kind of use that is made of ssl.
    tls: bool = False
    #: Whether it is of use only where greenloop is called gevent.
    gevent: bool = False
    #: What the environment has to say where greenloop is not.
    without_gevent: dict[str, str] = field(default_factory=dict)


#: By the module in `libraries`.
LIBRARIES = {
    "aiohttp_session": Needs("http", "aiohttp", tls=True),
    "boto3_s3": Needs("http", "boto3"),
    "dnspython_resolver": Needs("dns", "dns"),
    "ftplib_file": Needs("ftp", "ftplib"),
    "grpc_channel": Needs("grpc", "grpc", gevent=True),
    "httpx_client": Needs("http", "httpx", tls=True),
    "imaplib_mailbox": Needs("imap", "imaplib", tls=True),
    "kombu_pool": Needs("rabbitmq", "kombu"),
    "paramiko_channels": Needs("sshd", "paramiko"),
    "pika_connections": Needs("rabbitmq", "pika", tls=True),
    "poplib_mailbox": Needs("pop", "poplib"),
    "psycopg2_pool": Needs("postgres", "psycopg2"),
    # It waits in C unless it finds gevent, or is told otherwise.
    "psycopg3_pool": Needs(
        "postgres", "psycopg", without_gevent={"PSYCOPG_WAIT_FUNC": "wait_select"}
    ),
    "pymongo_client": Needs("mongo", "pymongo", tls=True),
    "pymysql_engine": Needs("mariadb", "pymysql"),
    "redis_pool": Needs("redis", "redis"),
    "requests_session": Needs("http", "requests", tls=True),
    "smtplib_mail": Needs("smtp", "smtplib", tls=True),
    "urllib3_pool": Needs("http", "urllib3"),
    "websocket_client": Needs("websocket", "websocket", tls=True),
}

each_library = pytest.mark.parametrize("library", LIBRARIES)


@each_library
def test_calls_overlap(check: Any, library: str) -> None:
    """In a program that uses greenloop by its own name. As gevent the next test has it."""
    needs = LIBRARIES[library]
    env = needs.without_gevent
    check(library, "overlap", needs.server, needs=needs.module, dropin=needs.gevent, env=env)


@each_library
def test_timeouts_lose_no_connection(check: Any, library: str) -> None:
    needs = LIBRARIES[library]
    check(library, "timeouts", needs.server, needs=needs.module)


@each_library
def test_lost_connections_raise_the_own_error(check: Any, library: str) -> None:
    needs = LIBRARIES[library]
    check(library, "lost", needs.server, needs=needs.module, proxy=True)


@pytest.mark.parametrize("library", [name for name, needs in LIBRARIES.items() if needs.tls])
@pytest.mark.parametrize("name", ["timeouts", "lost"])
def test_over_tls(check: Any, library: str, name: str) -> None:
    needs = LIBRARIES[library]
    check(library, name, needs.server, needs=needs.module, tls=True)


def test_redis_subscriber_beside_publishers(check: Any) -> None:
    check("redis_pool", "subscriber", "redis", needs="redis")
