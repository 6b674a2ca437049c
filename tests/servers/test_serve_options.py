"""Options of `greenloop serve`, and what is wrong with them."""

from __future__ import annotations

import dataclasses
import re
import signal
import socket
import ssl
from pathlib import Path

import pytest
import trustme
from serve_support import APP, Served, eventually, get, run_to_end

from greenloop.serve import _options


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "no application given"),
        (["app", "--nonsense"], 2, "unrecognized arguments: --nonsense"),
        (["app", "other"], 2, "unrecognized arguments: other"),
        (["app", "--workers"], 2, "argument --workers: expected one argument"),
        (["app", "--workers", "0"], 2, "--workers: must be at least 1, not 0"),
        (["app", "--workers", "x"], 2, "--workers: expected a whole number, not 'x'"),
        (["app", "--timeout", "-1"], 2, "--timeout: must be a number of seconds"),
        (["app", "--timeout", "nan"], 2, "--timeout: must be a number of seconds"),
        (["app", "--bind", "1.2.3.4"], 2, "--bind: expected HOST:PORT"),
        (["app", "--bind", "localhost:99999"], 2, "--bind: expected HOST:PORT"),
        (["app", "--bind", "::1:80"], 2, "--bind: an IPv6 address needs brackets: [::1]:80"),
        (["app", "--bind", "unix:"], 2, "--bind: expected a path after unix:"),
        (["app", "--bind", "unix:" + "x" * 108], 2, "107 bytes at most"),
        (["app", "--bind", "fd://x"], 2, "--bind: expected the number of a descriptor"),
        (["app", "--bind", ":80", "--bind", "*:80"], 2, "*:80 is given twice"),
        (["app", "--env", "x"], 2, "--env: expected KEY=VALUE, not 'x'"),
        (["app", "--access-log-format", "x"], 2, "expected common, combined or json, not 'x'"),
        (["app", "--forwarded-allow-ips", "10.0.0.1/8"], 2, "has host bits set"),
        (["app", "--statsd", "host"], 2, "--statsd: expected HOST:PORT"),
        (["app", "--server-header", "a\nb"], 2, "--server-header: must be ASCII"),
        (["app", "--keyfile", "x"], 2, "--keyfile needs --certfile"),
        (["app", "--max-requests-jitter", "3"], 2, "needs --max-requests"),
        (["app", "--chdir", "nowhere"], 1, "cannot go to nowhere: No such file or directory"),
        (["app", "--certfile", "nowhere"], 1, "cannot read nowhere: No such file or directory"),
        (["app", "--certfile", "app.py"], 1, "certificate, key or ciphers are not right"),
        (["app", "--access-log", "no/where"], 1, "cannot open the access log no/where"),
        (["app", "--pid", "no/where"], 1, "No such file or directory"),
        (["app", "--bind", "fd://77"], 1, "cannot listen on fd://77: Bad file descriptor"),
        (["app", "--bind", "unix:no/where"], 1, "cannot listen on unix:no/where: No such file"),
        (["app", "--bind", "unix:app.py"], 1, "unix:app.py: Address already in use"),
        (["app", "--bind", "192.0.2.1:0"], 1, "192.0.2.1:0: Cannot assign requested address"),
        (["nothing", "--check"], 1, "there is no module 'nothing'"),
        (["app.sub", "--check"], 1, "there is no module 'app.sub'"),
        (["app:nothing", "--check"], 1, "module 'app' has no 'nothing'"),
        (["app:a b", "--check"], 1, "expected module:name, not 'app:a b'"),
        (["app:os.nothing", "--check"], 1, "module 'app' has no 'os.nothing'"),
        (["app:__name__", "--check"], 1, "'__name__' of module 'app' is not callable"),
        (["re", "--check"], 1, "module 're' has neither 'application' nor 'app'"),
        (["app:os.getpid", "--factory", "--check"], 1, "has returned what is not callable"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, words: list[str], status: int, message: str) -> None:
    (tmp_path / "app.py").write_text(APP)
    result = run_to_end(tmp_path, *words)
    (line,) = result.stderr.splitlines()
    assert result.returncode == status
    assert message in line
    assert line.startswith("greenloop serve: ")
    assert result.stdout == ""


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = f"127.0.0.1:{other.getsockname()[1]}"
        result = run_to_end(tmp_path, "app", "--bind", where)
    assert result.returncode == 1
    assert result.stderr == f"greenloop serve: cannot listen on {where}: Address already in use\n"


@pytest.mark.parametrize("check", [False, True])
def test_an_import_error_shows_the_module_only(tmp_path: Path, check: bool) -> None:
    (tmp_path / "app.py").write_text("import helper\n")
    (tmp_path / "helper.py").write_text("def fail():\n    raise KeyError('who')\n\nfail()\n")
    words = ["--check"] if check else ["--bind", "127.0.0.1:0", "--workers", "3"]
    result = run_to_end(tmp_path, "app", *words)
    assert result.returncode == 1
    assert "KeyError: 'who'" in result.stderr
    # Once, however many workers there are to be.
    assert result.stderr.count("cannot import 'app': KeyError: 'who'") == 1
    files = re.findall(r'File "([^"]+)"', result.stderr)
    assert {Path(file).name for file in files} == {"app.py", "helper.py"}
    assert "_bootstrap" not in result.stderr


def test_an_import_that_misses_another_module(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import nothing_of_the_kind\n")
    result = run_to_end(tmp_path, "app", "--check")
    assert result.returncode == 1
    assert 'app.py", line 1' in result.stderr
    assert "cannot import 'app': No module named 'nothing_of_the_kind'" in result.stderr


def test_a_module_that_exits(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import sys\nsys.exit('not today')\n")
    result = run_to_end(tmp_path, "app", "--bind", "127.0.0.1:0")
    assert result.returncode == 1
    assert "cannot import 'app': SystemExit: not today" in result.stderr


def test_check(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as other:
        # It may run already.
        where = f"127.0.0.1:{other.getsockname()[1]}"
        result = run_to_end(tmp_path, "app", "--check", "--bind", where)
    assert (result.returncode, result.stdout, result.stderr) == (0, "app can be served\n", "")


def test_help_names_every_option_and_ends_well(tmp_path: Path) -> None:
    result = run_to_end(tmp_path, "--help")
    assert result.returncode == 0
    assert result.stderr == ""
    for option in dataclasses.fields(_options.Options):
        if option.name not in ("app", "patch"):
            assert f"--{option.name.replace('_', '-')} " in result.stdout
    assert "--no-patch" in result.stdout
    assert "GREENLOOP_SERVE_" in result.stdout


def test_variables_of_the_environment(tmp_path: Path) -> None:
    env = {
        "GREENLOOP_SERVE_APP": "app:make",
        "GREENLOOP_SERVE_FACTORY": "yes",
        "GREENLOOP_SERVE_BIND": "127.0.0.1:0, unix:sock",
        "GREENLOOP_SERVE_WORKERS": "7",
        "GREENLOOP_SERVE_ENV": "A=1 B=2",
        "GREENLOOP_SERVE_SERVER_HEADER": "tests",
        "GREENLOOP_SERVE_PATCH": "off",
        "GREENLOOP_SERVE_PORT": "tcp://10.0.0.1:80",  # as Kubernetes sets it for a service
    }
    source = APP + "\n\nimport time\nPATCHED = time.sleep\ndef make():\n    return application\n"
    source = source.replace('"hello"', "time.sleep.__module__")
    (tmp_path / "app.py").write_text(source)
    with Served(
        tmp_path, "--workers", "2", source=None, bind=False, env=env, app="app:make"
    ) as server:
        server.pids(2)
        assert get(tmp_path / "sock", "/getenv?A") == "1"
        assert get(tmp_path / "sock", "/getenv?B") == "2"
        assert server.get() == "time"
        with server.connect() as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            with sock.makefile("rb") as file:
                assert b"\r\nServer: tests\r\n" in file.read()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("WORKERS", "many", "GREENLOOP_SERVE_WORKERS: expected a whole number, not 'many'"),
        ("RELOAD", "perhaps", "GREENLOOP_SERVE_RELOAD: expected 1 or 0"),
        ("BIND", "a b", "GREENLOOP_SERVE_BIND: expected HOST:PORT"),
    ],
)
def test_wrong_variables(tmp_path: Path, name: str, value: str, message: str) -> None:
    result = run_to_end(tmp_path, "app", env={f"GREENLOOP_SERVE_{name}": value})
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_several_addresses(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    path.touch()
    path.unlink()
    leftover = socket.socket(socket.AF_UNIX)
    leftover.bind(str(path))
    leftover.close()  # a path that nobody listens on
    with Served(tmp_path, "--bind", "[::1]:0", "--bind", f"unix:{path}") as server:
        assert server.get() == "hello"
        line = next(line for line in server.lines if "[::1]" in line)
        assert get(("::1", int(line.rpartition(":")[2]))) == "hello"
        assert get(path) == "hello"
        assert get(path, "/environ?REMOTE_ADDR") == ""
        assert server.get("/environ?SERVER_PORT") == str(server.port)
        assert server.stop() == 0
    assert not path.exists()


def test_a_unix_socket_that_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with Served(tmp_path, "--bind", f"unix:{path}", bind=False):
        result = run_to_end(tmp_path, "app", "--bind", f"unix:{path}")
        assert result.returncode == 1
        assert "Address already in use" in result.stderr
        assert get(path) == "hello"


def test_two_servers_share_a_port(tmp_path: Path) -> None:
    with Served(tmp_path, "--reuse-port") as first:
        where = ("--bind", f"127.0.0.1:{first.port}")
        with Served(tmp_path, "--reuse-port", *where, bind=False) as second:
            first.pids(2)
            assert first.stop() == 0
            assert second.get() == "hello"


def test_chdir_and_env(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "app.py").write_text(APP.replace('"hello"', "os.getcwd()"))
    with Served(
        tmp_path, "--chdir", "there", "--env", "A=b=c", "--env", "PYTHONHASHSEED=", source=None
    ) as server:
        assert server.get() == str(tmp_path / "there")
        assert server.get("/getenv?A") == "b=c"


@pytest.mark.parametrize(("words", "answer"), [([], "True"), (["--no-patch"], "False")])
def test_patching_comes_before_the_application(
    tmp_path: Path, words: list[str], answer: str
) -> None:
    source = """\
    import socket
    import gevent.socket
    IS_PATCHED = socket.socket is gevent.socket.socket

    def app(environ, start_response):
        start_response("200 OK", [])
        return [str(IS_PATCHED).encode()]
    """
    with Served(tmp_path, *words, source=source) as server:
        assert server.get() == answer


def test_the_file_of_the_process_id(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("999999999\n")  # of a process that is gone
    with Served(tmp_path, "--pid", "pid") as server:
        assert path.read_text() == f"{server.process.pid}\n"
        result = run_to_end(tmp_path, "app", "--bind", "127.0.0.1:0", "--pid", "pid")
        assert result.returncode == 1
        assert f"already running: {path} is of process {server.process.pid}" in result.stderr
        assert server.get() == "hello"
        assert server.stop() == 0
        assert not path.exists()


def test_a_deadline_for_requests(tmp_path: Path) -> None:
    with Served(tmp_path, "--timeout", "0.1") as server, server.connect() as sock:
        sock.sendall(b"GET /wait?a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 503 ")


def test_limits_are_handed_on(tmp_path: Path) -> None:
    words = ["--max-request-line", "50", "--max-headers", "2", "--max-body", "5"]
    with Served(tmp_path, *words) as server:
        for request, status in (
            (b"GET /" + b"x" * 50 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"414"),
            (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\nC: d\r\n\r\n", b"431"),
            (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n123456", b"413"),
        ):
            with server.connect() as sock:
                sock.sendall(request)
                assert sock.recv(65536).split()[1] == status


def test_connections_beyond_the_limit_wait(tmp_path: Path) -> None:
    words = ("--max-connections", "1", "--admin", "unix:admin")
    with (
        Served(tmp_path, *words) as server,
        server.connect() as first,
        server.connect() as second,
    ):
        first.sendall(b"GET /wait?a HTTP/1.0\r\n\r\n")
        eventually((tmp_path / "begun-a").exists)
        second.sendall(b"GET /wait?b HTTP/1.0\r\n\r\n")
        # The worker has every opportunity to take it.
        for _ in range(20):
            assert get(tmp_path / "admin", "/health") == "1 workers\n"
        assert not (tmp_path / "begun-b").exists()
        (tmp_path / "go").touch()
        for sock in (first, second):
            with sock.makefile("rb") as file:
                assert file.read().endswith(b"waited")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def _files(authority: trustme.CA, directory: Path, name: str = "localhost") -> tuple[str, str]:
    certificate = authority.issue_cert(name)
    certfile, keyfile = directory / "cert.pem", directory / "key.pem"
    keyfile.write_bytes(certificate.private_key_pem.bytes())
    certfile.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    return str(certfile), str(keyfile)


def _get_by_tls(server: Served, context: ssl.SSLContext) -> tuple[bytes, bytes]:
    """The certificate, and the response."""
    with server.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as sock:
        sock.sendall(b"GET /environ?wsgi.url_scheme HTTP/1.0\r\n\r\n")
        certificate = sock.getpeercert(binary_form=True)
        assert certificate is not None
        answer = b""
        while data := sock.recv(65536):
            answer += data
        return certificate, answer


def test_tls(tmp_path: Path, authority: trustme.CA) -> None:
    certfile, keyfile = _files(authority, tmp_path)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with Served(tmp_path, "--certfile", certfile, "--keyfile", keyfile) as server:
        assert "listening on https://127.0.0.1:" in server.text
        before, answer = _get_by_tls(server, context)
        assert answer.endswith(b"https")
        # A new certificate is used from SIGHUP on.
        _files(authority, tmp_path)
        server.send(signal.SIGHUP)
        eventually(lambda: _get_by_tls(server, context)[0] != before)
        assert server.stop() == 0


def test_certificates_of_clients(tmp_path: Path, authority: trustme.CA) -> None:
    certfile, keyfile = _files(authority, tmp_path)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    words = ["--certfile", certfile, "--keyfile", keyfile, "--ca-certs", str(tmp_path / "ca.pem")]
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with Served(tmp_path, *words) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _get_by_tls(server, context)
        authority.issue_cert("client").configure_cert(context)
        assert _get_by_tls(server, context)[1].endswith(b"https")


def test_an_encrypted_key_is_refused(tmp_path: Path, authority: trustme.CA) -> None:
    from cryptography.hazmat.primitives import serialization

    (tmp_path / "app.py").write_text(APP)
    certfile, keyfile = _files(authority, tmp_path)
    key = serialization.load_pem_private_key(Path(keyfile).read_bytes(), None)
    Path(keyfile).write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    result = run_to_end(tmp_path, "app", "--certfile", certfile, "--keyfile", keyfile)
    assert result.returncode == 1
    assert "the key is encrypted" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_workers_go_on_if_the_new_certificate_is_none(
    tmp_path: Path, authority: trustme.CA
) -> None:
    certfile, keyfile = _files(authority, tmp_path)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with Served(tmp_path, "--certfile", certfile, "--keyfile", keyfile) as server:
        before, _ = _get_by_tls(server, context)
        Path(certfile).write_text("nonsense")
        server.send(signal.SIGHUP)
        server.wait_for("the workers that are there go on")
        assert "cannot serve: " in server.text
        assert "Traceback" not in server.text
        assert _get_by_tls(server, context)[0] == before
