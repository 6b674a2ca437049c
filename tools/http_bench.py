"""Have at hand what `make bench-http` needs and Python's package index lacks: `http_bench.py`.

wrk, which loads the servers, and libev with its headers, which one of them (bjoern) is built with.
What the machine lacks is unpacked from Debian's packages into build/http-bench, without root.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path

from debian import Packages, bind_to_libraries, fail

DEFAULT = Path(__file__).resolve().parent.parent / "build" / "http-bench"
HEADERS = [Path("/usr") / part / "ev.h" for part in ("include", "include/libev", "local/include")]


def say(what: str) -> None:
    print(f"http_bench: {what}", file=sys.stderr, flush=True)


def suite() -> str:
    """The release of Debian that the machine has: libraries have to fit its compiler."""
    release = Path("/etc/os-release")
    found = re.search(r"^VERSION_CODENAME=(\w+)", release.read_text(), re.MULTILINE)
    if found is None:
        fail(f"{release} does not say which Debian this is: install wrk and libev's headers")
    return found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description="Unpack wrk and libev where they are missing.")
    parser.add_argument("--into", type=Path, default=DEFAULT, metavar="DIRECTORY")
    directory = parser.parse_args().into.resolve()
    wrk = directory / "usr" / "bin" / "wrk"
    complete = directory / "wrk-is-complete"
    needs_wrk = shutil.which("wrk") is None and not complete.exists()
    libraries = directory / "libraries"
    needs_libev = not any(path.exists() for path in HEADERS) and not libraries.exists()
    if not needs_wrk and not needs_libev:
        return
    packages = Packages(directory / ".apt", suite())
    packages.update()
    if needs_wrk:
        say("unpacking wrk")
        packages.unpack(packages.resolve(["wrk"]), directory)
        bind_to_libraries(directory, [wrk])
        complete.touch()
    if needs_libev:
        say("unpacking libev")
        packages.unpack(["libev4", "libev-dev"], directory)
        (found,) = directory.glob("usr/lib/*/libev.so")
        # Where compilers are told to look: the same place on every architecture.
        libraries.symlink_to(found.parent.relative_to(directory))


if __name__ == "__main__":
    main()
