"""Start-up of every process that runs a peer's tests on greenloop, the tests' children included.

The drop-in has put greenloop in the peer's place by now. The tests, and what is for them only, are
modules of the peer's package: this lets `greenlet.tests`, or `gevent.tests` and `gevent.testing`,
be found, in a directory that has nothing else of the peer.
"""

import importlib
import os
import sys
import types

name = os.environ["CONFORMANCE_PEER"]
package = importlib.import_module(name)
assert package.__name__.startswith("greenloop"), f"the drop-in is not in place: {package!r}"
vars(package).setdefault("__path__", []).append(os.environ["CONFORMANCE_TESTS"])

if name == "gevent":
    # What test__all__ takes from a private module of gevent's: the standard module that each of
    # gevent's stands for.
    patcher = types.ModuleType("gevent._patcher")
    vars(patcher)["MAPPING"] = {
        "gevent.builtins": "builtins",
        "gevent.contextvars": "contextvars",
        "gevent.local": "_threading_local",
        "gevent.os": "os",
        "gevent.queue": "queue",
        "gevent.select": "select",
        "gevent.selectors": "selectors",
        "gevent.signal": "signal",
        "gevent.socket": "socket",
        "gevent.ssl": "ssl",
        "gevent.subprocess": "subprocess",
        "gevent.thread": "_thread",
        "gevent.threading": "threading",
        "gevent.time": "time",
    }
    sys.modules["gevent._patcher"] = patcher
