"""Start the servers that tests talk to: `python tools/servers.py postgres redis`.

Each runs on a free port of the loopback interface, with its data in a temporary directory, and
nothing of the machine's own configuration. That command prints where they are and stops them when
it is interrupted; tests use `running()`. The programs come from Debian's packages, see
tools/services.py.

Servers started by root run as `nobody`, where they can: PostgreSQL and MariaDB refuse to be root.
"""

from __future__ import annotations

import argparse
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import services

# Seconds until a server has to be up. A guard against hangs, no statement about speed.
START_TIMEOUT = 120.0
# Seconds that a server has to stop in, before it is killed.
STOP_TIMEOUT = 20.0
# Somebody else may take a port between the look for a free one and the server's start.
ATTEMPTS = 3

HOST = "127.0.0.1"
#: How many connections every server takes.
CONNECTIONS = 400


class ServerError(Exception):
    """A server cannot be started; the message has what it wrote."""


class ProgramMissingError(ServerError):
    """A server's program is not installed."""


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    name: str
    port: int
    #: What a client library is told, as a URL.
    url: str
    #: Its data. The owner is the user that the server runs as.
    directory: Path
    process: subprocess.Popen[bytes]


@dataclass
class Plan:
    """How to start a server."""

    command: list[str | Path]
    url: str
    environment: dict[str, str] = field(default_factory=dict)
    #: Helpers that have to run before and as long as the server does.
    helpers: list[list[str | Path]] = field(default_factory=list)
    #: The signal that makes the server stop soon, whoever is connected.
    stop: signal.Signals = signal.SIGTERM
    #: Whether the server stays root if this is run by root.
    as_root: bool = False
    #: The socket is there before the server is ready: more that has to be true.
    ready: Callable[[], bool] = lambda: True


def program(name: str) -> str:
    """The path of a program; raises ProgramMissingError."""
    path = services.find(name)
    if path is None:
        raise ProgramMissingError(f"{name} is not installed: python tools/services.py")
    return path


def unprivileged() -> pwd.struct_passwd | None:
    """Whom servers of root run as; None if this is not run by root."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def free_port() -> int:
    """A port of the loopback interface that nobody uses now.

    It is none that the system gives to clients. One of these could become the source of a
    connection before the server starts, even of one to itself: to look whether a server has come
    up, by connecting, would find that it has.
    """
    first_of_clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, max(first_of_clients, 20_000))
        with socket.socket() as sock, suppress(OSError):
            sock.bind((HOST, port))
            return port


def run(command: list[str | Path], directory: Path, environment: dict[str, str]) -> None:
    """Run a command that prepares a server's directory."""
    done = subprocess.run(
        lowered(command),
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode != 0:
        raise ServerError(f"{command[0]} failed:\n{done.stdout.decode(errors='replace')}")


def lowered(command: list[str | Path], *, as_root: bool = False) -> list[str | Path]:
    """A command that gives up root's rights, and ends when the one who started it dies."""
    words: list[str | Path] = [program("setpriv"), "--pdeathsig", "KILL"]
    user = None if as_root else unprivileged()
    if user is not None:
        words += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [*words, "--", *command]


# --- the servers: each has a function that prepares a directory and says how to start ---


def redis(directory: Path, port: int) -> Plan:
    options = {
        "bind": HOST,
        "port": str(port),
        "dir": str(directory),
        "maxclients": str(CONNECTIONS),
        "save": "",
        "appendonly": "no",
    }
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    return Plan([program("redis-server"), *words], f"redis://{HOST}:{port}/0")


def postgres(directory: Path, port: int) -> Plan:
    data = directory / "data"
    initdb = Path(program("postgres")).resolve().with_name("initdb")
    run(
        [
            *(initdb, "--pgdata", data, "--username", "postgres", "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync"),
        ],
        directory,
        {"PATH": os.defpath, "HOME": str(directory)},
    )
    settings = {
        "listen_addresses": HOST,
        "port": str(port),
        "unix_socket_directories": str(directory),
        "max_connections": str(CONNECTIONS),
        # Nothing has to survive the machine.
        "fsync": "off",
    }
    words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    return Plan(
        [program("postgres"), "-D", data, *words],
        f"postgresql://postgres@{HOST}:{port}/postgres",
        stop=signal.SIGINT,
        # It listens while it still recovers, and says so in this file once it does not.
        ready=lambda: "ready" in (data / "postmaster.pid").read_text(),
    )


def mariadb(directory: Path, port: int) -> Plan:
    data = directory / "data"
    run(
        [
            *(program("mariadb-install-db"), "--no-defaults", f"--datadir={data}"),
            *("--auth-root-authentication-method=normal", "--skip-test-db"),
        ],
        directory,
        {"PATH": f"{os.defpath}:/usr/sbin:/sbin", "HOME": str(directory)},
    )
    return Plan(
        [
            *(program("mariadbd"), "--no-defaults", f"--datadir={data}"),
            *(f"--bind-address={HOST}", f"--port={port}", f"--socket={directory / 'socket'}"),
            *(f"--pid-file={directory / 'pid'}", f"--max-connections={CONNECTIONS}"),
            *("--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0", "--back-log=400"),
        ],
        f"mysql://root@{HOST}:{port}/mysql",
    )


def rabbitmq(directory: Path, port: int) -> Plan:
    # The script in /usr/sbin is Debian's, which changes to the user rabbitmq and its directories.
    server = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    if not server.exists():
        server = Path(program("rabbitmq-server"))
    names, distribution = free_port(), free_port()
    (directory / "plugins").write_text("[].\n")
    (directory / "rabbitmq.conf").write_text(
        f"listeners.tcp.default = {HOST}:{port}\nloopback_users = none\n"
    )
    (directory / "empty").touch()
    environment = {
        "HOME": str(directory),
        # Erlang's name server, one of our own: otherwise the node would start one that stays.
        "ERL_EPMD_ADDRESS": HOST,
        "ERL_EPMD_PORT": str(names),
        # Makes the script become the server, instead of being its parent.
        "RUNNING_UNDER_SYSTEMD": "true",
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "empty"),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_MNESIA_BASE": str(directory / "data"),
        "RABBITMQ_NODENAME": f"greenloop-{port}@localhost",
        "RABBITMQ_PID_FILE": str(directory / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
    }
    return Plan(
        [server],
        f"amqp://guest:guest@{HOST}:{port}//",
        environment,
        helpers=[[program("epmd"), "-address", HOST, "-port", str(names)]],
    )


def sshd(directory: Path, port: int) -> Plan:
    keygen = program("ssh-keygen")
    for name in ("host", "user"):
        run(
            [keygen, "-q", "-t", "ed25519", "-N", "", "-f", directory / f"{name}_key"],
            directory,
            {"PATH": os.defpath},
        )
    # It logs in whoever runs this, who has to be able to read the keys.
    user = pwd.getpwuid(os.geteuid())
    for path in (directory, *directory.iterdir()):
        os.chown(path, user.pw_uid, user.pw_gid)
    if user.pw_uid == 0:
        # Where it locks up its unprivileged part. The machine's own service makes it as well.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    settings = {
        "ListenAddress": f"{HOST}:{port}",
        "HostKey": directory / "host_key",
        "AuthorizedKeysFile": directory / "user_key.pub",
        "AllowUsers": user.pw_name,
        "PermitRootLogin": "prohibit-password",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        # The directories above ours belong to others.
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
        "MaxSessions": CONNECTIONS,
        "MaxStartups": CONNECTIONS,
        # Commands are run by the user's shell, which reads files at home, however long it takes.
        "SetEnv": f"HOME={directory}",
        "Subsystem": "sftp internal-sftp",
    }
    config = directory / "sshd_config"
    config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    return Plan(
        [program("sshd"), "-D", "-e", "-f", config],
        f"ssh://{user.pw_name}@{HOST}:{port}",
        as_root=True,
    )


SERVERS: dict[str, Callable[[Path, int], Plan]] = {
    "mariadb": mariadb,
    "postgres": postgres,
    "rabbitmq": rabbitmq,
    "redis": redis,
    "sshd": sshd,
}


# --- starting and stopping ---


@contextmanager
def temporary_directory(name: str) -> Iterator[Path]:
    """A directory that belongs to whom servers run as. Its path is short, for sockets in it."""
    directory = Path(tempfile.mkdtemp(prefix=f"greenloop-{name}-"))
    try:
        user = unprivileged()
        if user is not None:
            os.chown(directory, user.pw_uid, user.pw_gid)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def process_of(
    command: list[str | Path], plan: Plan, directory: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process with all of its children, while the body runs. What it writes goes to a file."""
    with (directory / "output").open("ab") as output:
        process = subprocess.Popen(
            lowered(command, as_root=plan.as_root),
            cwd=directory,
            env={"PATH": f"{os.defpath}:/usr/sbin:/sbin", "LANG": "C.UTF-8", **plan.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(plan.stop)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT)
        # Its children too, and itself if it did not stop.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_ready(plan: Plan, port: int, process: subprocess.Popen[bytes], output: Path) -> None:
    """Wait until a server takes connections; raises ServerError if it ends instead."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0 and plan.ready():
                return
        if process.poll() is not None or time.monotonic() > deadline:
            what = "did not come up" if process.poll() is None else "ended at once"
            text = output.read_text(errors="replace")
            raise ServerError(f"{plan.command[0]} {what}:\n{text}")
        time.sleep(0.02)


@contextmanager
def attempt(name: str) -> Iterator[Server]:
    with ExitStack() as stack:
        directory = stack.enter_context(temporary_directory(name))
        port = free_port()
        plan = SERVERS[name](directory, port)
        for helper in plan.helpers:
            stack.enter_context(process_of(helper, plan, directory))
        process = stack.enter_context(process_of(plan.command, plan, directory))
        wait_until_ready(plan, port, process, directory / "output")
        yield Server(name, port, plan.url, directory, process)


@contextmanager
def running(name: str) -> Iterator[Server]:
    """A server, one of SERVERS, that runs as long as the body does.

    Raises ProgramMissingError if it is not installed, and ServerError if it cannot be started.
    """
    with ExitStack() as stack:
        for last in range(ATTEMPTS, 0, -1):
            try:
                server = stack.enter_context(attempt(name))
                break
            except ProgramMissingError:
                raise
            except ServerError:
                if last == 1:
                    raise
        yield server


def main() -> int:
    parser = argparse.ArgumentParser(description="Start servers, and stop them on Ctrl-C.")
    parser.add_argument(
        "names", nargs="+", choices=SERVERS, metavar="NAME", help=", ".join(SERVERS)
    )
    options = parser.parse_args()
    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in signals:
        signal.signal(number, interrupt)
    try:
        with ExitStack() as stack:
            for name in options.names:
                server = stack.enter_context(running(name))
                print(f"{name} {server.url}", flush=True)
            signal.pause()
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
