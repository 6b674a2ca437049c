"""`ssl` patched after libraries have used it, derived from it, wrapped it."""

from __future__ import annotations

from typing import Any

import pytest

#: Defines `server_context`, `client_context` and `check(context)`: TLS connections of the client's
#: context let other greenlets run.
SETTING = """
import ssl, sys
import trustme

authority = trustme.CA()
server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
authority.issue_cert("localhost").configure_cert(server_context)

def trusting(kind):
    context = kind(ssl.PROTOCOL_TLS_CLIENT)
    trust(context)
    return context

def trust(context):
    context.load_verify_locations(cadata=authority.cert_pem.bytes().decode())

def check(context):
    import gevent, socket
    first, second = socket.socketpair()
    server = gevent.spawn(server_context.wrap_socket, second, server_side=True)
    client = context.wrap_socket(first, server_hostname="localhost")
    server = server.get(timeout=30)
    reader = gevent.spawn(client.recv, 10)
    gevent.sleep(0)
    assert not reader.ready()
    server.sendall(b"x")
    assert reader.get(timeout=30) == b"x"
    assert isinstance(client, ssl.SSLSocket)
    assert isinstance(client, gevent.ssl.SSLSocket)
    server.close()
    client.close()
    return client
"""

PATCH = """
import gevent.monkey
gevent.monkey.patch_all()
import gevent.ssl
"""


def run(run_script: Any, *parts: str) -> str:
    from textwrap import dedent

    script = "".join(dedent(part) for part in parts) + "\nprint('done')\n"
    result = run_script(script)
    output: str = result.check_quiet()
    return output


DERIVED_SOCKET = """
class Plain(ssl.SSLSocket):
    pass

class Counting(ssl.SSLSocket):
    count = 0

    def recv(self, *args):
        self.count += 1
        return super().recv(*args)

    @classmethod
    def _create(cls, *args, **options):
        return super()._create(*args, **options)

class Context(ssl.SSLContext):
    sslsocket_class = Counting

contexts = [trusting(Context), trusting(ssl.SSLContext), trusting(ssl.SSLContext)]
contexts[1].sslsocket_class = Plain
contexts[2].sslsocket_class = ssl.SSLSocket
"""

CHECK_DERIVED_SOCKET = """
client = check(contexts[0])
assert isinstance(client, Counting)
assert client.count == 1
assert type(client).__qualname__ == "Counting"
first, second = check(contexts[1]), check(contexts[1])
assert isinstance(first, Plain)
assert type(first) is type(second)
check(contexts[2])
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_derived_classes_of_sockets(run_script: Any, when: str) -> None:
    parts = [DERIVED_SOCKET, PATCH] if when == "before" else [PATCH, DERIVED_SOCKET]
    assert run(run_script, SETTING, *parts, CHECK_DERIVED_SOCKET) == "done\n"


def test_a_class_that_cannot_be_made_cooperative(run_script: Any) -> None:
    script = """
        import warnings

        class Slots(ssl.SSLSocket):
            __slots__ = ("slot",)

        context = trusting(ssl.SSLContext)
        context.sslsocket_class = Slots
        import socket
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with context.wrap_socket(socket.socket(), server_hostname="localhost") as sock:
                assert type(sock) is Slots
        assert "block all greenlets" in str(caught[0].message), caught
        """
    assert run(run_script, SETTING, PATCH, script) == "done\n"


# As truststore does: the class in the module is one that keeps a context of the original class.
REPLACED = """
original = ssl.SSLContext

class Keeping(original):
    def __new__(cls, protocol=None):
        return super().__new__(cls, protocol)

    def __init__(self, protocol=None):
        self.kept = original(protocol)

    def wrap_socket(self, *args, **options):
        return self.kept.wrap_socket(*args, **options)

    def load_verify_locations(self, *args, **options):
        self.kept.load_verify_locations(*args, **options)

ssl.SSLContext = Keeping
context = trusting(ssl.SSLContext)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_context_class_that_was_replaced(run_script: Any, when: str) -> None:
    parts = [REPLACED, PATCH] if when == "before" else [PATCH, REPLACED]
    check = """
        check(context)
        assert issubclass(gevent.ssl.SSLContext, original)
        assert not issubclass(gevent.ssl.SSLContext, Keeping)
        """
    assert run(run_script, SETTING, *parts, check) == "done\n"


# As the libraries do that instruments are made of: functions are wrapped in place.
WRAPPED = """
import functools

calls = []

def wrap(owner, name):
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapper(*args, **options):
        calls.append(name)
        return original(*args, **options)

    setattr(owner, name, wrapper)

wrap(ssl.SSLContext, "wrap_socket")
wrap(ssl, "create_default_context")
old = trusting(ssl.SSLContext)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_wrappers(run_script: Any, when: str) -> None:
    parts = [WRAPPED, PATCH] if when == "before" else [PATCH, WRAPPED]
    check = """
        calls.clear()
        check(old)
        assert calls == ["wrap_socket"] * 2, calls
        new = ssl.create_default_context()
        trust(new)
        check(new)
        assert calls == ["wrap_socket"] * 2 + ["create_default_context"] + ["wrap_socket"] * 2
        """
    assert run(run_script, SETTING, *parts, check) == "done\n"


PROPERTIES = """
from functools import partial

class Careful(ssl.SSLContext):
    @property
    def minimum_version(self):
        return super().minimum_version

    @minimum_version.setter
    def minimum_version(self, value):
        super(Careful, type(self)).minimum_version.__set__(self, value)

    @property
    def options(self):
        return super().options

    @options.setter
    def options(self, value):
        super(Careful, Careful).options.__set__(self, value | ssl.OP_NO_COMPRESSION)

def use(context):
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    assert context.maximum_version is ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET
    assert ssl.OP_NO_TICKET in context.options
    context.options &= ~ssl.OP_NO_TICKET
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    assert ssl.VERIFY_X509_STRICT in context.verify_flags
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    assert context.verify_mode is ssl.CERT_NONE
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    assert context.protocol is ssl.PROTOCOL_TLS_CLIENT
    context.keylog_filename = None
    context.post_handshake_auth = True
    context._msg_callback = None
    assert context._msg_callback is None
    repr(context)

old = [trusting(ssl.SSLContext), trusting(Careful)]
for context in old:
    use(context)
"""


def test_properties_of_contexts(run_script: Any) -> None:
    check = """
        import gevent.ssl
        new = [trusting(kind) for kind in (ssl.SSLContext, gevent.ssl.SSLContext, Careful)]
        new.append(ssl.create_default_context())
        for context in [*old, *new]:
            use(context)
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            trust(context)
            check(context)
        """
    assert run(run_script, SETTING, PROPERTIES, PATCH, check) == "done\n"


def test_what_counts_as_a_context_of_ours(run_script: Any) -> None:
    before = """
        import gevent.ssl

        class Context(ssl.SSLContext):
            pass

        class Other(gevent.ssl.SSLContext):
            pass

        contexts = [trusting(ssl.SSLContext), trusting(Context)]
        ours = trusting(Other)
        assert not any(isinstance(context, gevent.ssl.SSLContext) for context in contexts)
        assert isinstance(ours, gevent.ssl.SSLContext)
        """
    after = """
        for context in [*contexts, ssl.create_default_context()]:
            assert isinstance(context, gevent.ssl.SSLContext)
            assert not isinstance(context, Other)
        assert isinstance(ours, gevent.ssl.SSLContext)
        assert issubclass(Context, gevent.ssl.SSLContext)
        assert not isinstance(object(), gevent.ssl.SSLContext)
        assert not issubclass(ssl.SSLSocket, gevent.ssl.SSLContext)
        """
    assert run(run_script, SETTING, before, PATCH, after) == "done\n"


def test_one_context_for_asyncio_and_greenlets(run_script: Any) -> None:
    before = """
        import asyncio
        old = trusting(ssl.SSLContext)
        """
    check = """
        import gevent, socket

        async def main(context):
            async def echo(reader, writer):
                writer.write(await reader.readline())
                await writer.drain()
                writer.close()

            server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context)
            port = server.sockets[0].getsockname()[1]

            def fetch():
                with socket.create_connection(("127.0.0.1", port)) as plain:
                    with context.wrap_socket(plain, server_hostname="localhost") as client:
                        client.sendall(b"line\\n")
                        return client.recv(100)

            greenlet = gevent.spawn(fetch)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname="localhost")
            writer.write(b"line\\n")
            assert await reader.readline() == b"line\\n"
            writer.close()
            while not greenlet.ready():
                await asyncio.sleep(0.001)
            assert greenlet.get() == b"line\\n"
            server.close()

        for context in (old, trusting(ssl.SSLContext)):
            asyncio.run(main(context))
        """
    assert run(run_script, SETTING, before, PATCH, check) == "done\n"


def test_patching_again_changes_nothing(run_script: Any) -> None:
    script = """
        import gevent.monkey
        kinds = ssl.SSLContext, ssl.SSLSocket
        before = [dict(vars(kind)) for kind in kinds]
        gevent.monkey.patch_ssl()
        assert [dict(vars(kind)) for kind in kinds] == before
        original = gevent.monkey.get_original("ssl", "SSLContext")
        assert original is ssl.SSLContext
        check(trusting(original))
        """
    assert run(run_script, SETTING, PATCH, script) == "done\n"
