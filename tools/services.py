"""Have the servers and tools at hand that tests use: `python tools/services.py`.

They come from Debian's packages. Where one is missing, this installs it if it may (as root, with
apt-get at hand) and says so if it may not: the tests that need it are skipped then. Tests start
the servers themselves, on ports of their own (tools/servers.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Program that tests start, and the package that has it.
PROGRAMS = {
    "gdb": "gdb",
    "mariadbd": "mariadb-server-core",
    # mariadb-install-db calls it.
    "my_print_defaults": "mariadb-client-core",
    "postgres": "postgresql",
    "rabbitmq-server": "rabbitmq-server",
    "redis-server": "redis-server",
    "sshd": "openssh-server",
}

#: Forbids that a package that is being installed starts its service.
POLICY = Path("/usr/sbin/policy-rc.d")


def find(program: str) -> str | None:
    """The path of a program, also where Debian keeps those that users do not start by name."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    places = [
        os.environ.get("PATH", os.defpath),
        "/usr/local/sbin:/usr/sbin:/sbin",
        *(str(path) for path in reversed(versions)),
    ]
    return shutil.which(program, path=":".join(places))


def missing() -> dict[str, str]:
    """Programs that cannot be started here, and their packages."""
    return {program: package for program, package in PROGRAMS.items() if find(program) is None}


@contextmanager
def no_services_started() -> Iterator[None]:
    """Forbid packages to start services: tests start their own."""
    if POLICY.exists():
        # The machine has its policy already: containers usually have this very one.
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def install(packages: list[str]) -> None:
    """Install packages with apt-get; raises CalledProcessError if that fails."""
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", RUNLEVEL="1")
    apt = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
    subprocess.run([*apt, "update"], check=True, env=environment, stdout=subprocess.DEVNULL)
    with no_services_started():
        subprocess.run(
            [*apt, "install", "-y", "--no-install-recommends", *packages],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
        )


def main() -> int:
    wanted = missing()
    if not wanted:
        return 0
    names = ", ".join(wanted)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"not installed, tests that need it are skipped: {names}", file=sys.stderr)
        return 0
    print(f"installing {names}")
    try:
        install(sorted(set(wanted.values())))
    except subprocess.CalledProcessError as error:
        print(f"cannot install {names}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
