"""Runs the greenlet package's own tests on greenloop: `make conformance-greenlet`.

    python tools/conformance_greenlet.py [MODULE ...]

See conformance_cases. The list of differences is conformance-greenlet.toml. MODULE: run only these,
for example test_leaks. Exit status: 0 if nothing differs but what is listed, else 1.
"""

from __future__ import annotations

import argparse
import sys

from conformance_cases import Peer, conform, install

import greenloop.rawgreenlet

GREENLET = Peer("greenlet", greenloop.rawgreenlet.__version__)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run greenlet's own tests on greenloop.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="run only these")
    options = parser.parse_args()

    install(GREENLET)
    found = sorted(path.stem for path in GREENLET.tests.glob("test_*.py"))
    unknown = set(options.modules) - set(found)
    if unknown:
        parser.error(f"no such module: {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    return conform(GREENLET, options.modules or found, every=not options.modules)


if __name__ == "__main__":
    sys.exit(main())
