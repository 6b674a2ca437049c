"""Have the servers and tools at hand that tests use: `python tools/services.py`.

They come from Debian's packages. Where one is missing, this installs it if it may (as root, with
apt-get at hand) and says so if it may not: the tests that need it are skipped then. Tests start
the servers themselves, on ports of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

#: Program that tests start, and the package that has it.
PROGRAMS = {"gdb": "gdb", "redis-server": "redis-server"}


def missing() -> dict[str, str]:
    """Programs that cannot be started here, and their packages."""
    return {
        program: package for program, package in PROGRAMS.items() if shutil.which(program) is None
    }


def install(packages: list[str]) -> None:
    """Install packages with apt-get; raises CalledProcessError if that fails."""
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    apt = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
    subprocess.run([*apt, "update"], check=True, env=environment, stdout=subprocess.DEVNULL)
    # A policy that forbids starting services: tests start their own.
    environment["RUNLEVEL"] = "1"
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
