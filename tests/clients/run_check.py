"""Run a check in a process that is patched: `run_check.py LIBRARY CHECK JSON`.

As the script of `python -m greenloop`, where gevent is importable, it patches as programs for
gevent do. As one of plain Python, it uses greenloop by its own name, or gevent itself with
GREENLOOP_TEST_PEER=1 in the environment.
"""

from __future__ import annotations

import os
import sys

if "greenloop.dropin" in sys.modules or os.environ.get("GREENLOOP_TEST_PEER") == "1":
    from gevent import monkey
else:
    from greenloop import monkey

monkey.patch_all()

import importlib
import json

import support


def main() -> None:
    name, check, where = sys.argv[1:]
    module = importlib.import_module(f"libraries.{name}")
    support.check(module.Library, support.Where(**json.loads(where)), check)
    print("passed")


if __name__ == "__main__":
    main()
