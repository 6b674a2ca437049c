"""Runs gevent's own tests on greenloop: `make conformance-gevent`.

    python tools/conformance_gevent.py [MODULE ...]

See conformance_cases. The list of differences is conformance-gevent.toml. MODULE: run these, for
example test__queue or 'test__core*', instead of those that are supported. Many cases measure time:
modules with differences are run again, twice at most. Exit status: 0 if nothing differs but what is
listed, else 1.
"""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatchcase

from conformance_cases import Peer, conform, install

import greenloop
import greenloop.rawgreenlet

GEVENT = Peer(
    "gevent",
    greenloop.__version__,
    needs=(f"greenlet=={greenloop.rawgreenlet.__version__}",),
    parts=("tests", "testing"),
    time_limit=300.0,
)

#: The modules that greenloop has to pass.
SUPPORTED = (
    "test__GreenletExit",
    "test___config",
    "test___ident",
    "test___monitor",
    "test__all__",
    "test__api*",
    "test__ares*",
    "test__backdoor",
    "test__close_backend_fd",
    "test__compat",
    "test__contextvars",
    "test__core*",
    "test__destroy*",
    "test__doctests",
    "test__environ",
    "test__event*",
    "test__exc_info",
    "test__execmodules",
    "test__fileobject",
    "test__getaddrinfo_import",
    "test__greenio",
    "test__greenlet*",
    "test__greenness",
    "test__hub*",
    "test__import_wait",
    "test__issue*",
    "test__iwait",
    "test__joinall",
    "test__local",
    "test__lock",
    "test__loop*",
    "test__makefile_ref",
    "test__monkey*",
    "test__nondefaultloop",
    "test__order",
    "test__os",
    "test__pool",
    "test__pywsgi",
    "test__queue",
    "test__real_greenlet",
    "test__refcount*",
    "test__resolver_dnspython",
    "test__select*",
    "test__semaphore",
    "test__server*",
    "test__signal",
    "test__sleep0",
    "test__socket",
    "test__socket_close",
    "test__socket_dns*",
    "test__socket_errors",
    "test__socket_ex",
    "test__socket_send_memoryview",
    "test__socket_ssl",
    "test__socket_timeout",
    "test__socketpair",
    "test__ssl",
    "test__subprocess*",
    "test__systemerror",
    "test__thread*",
    "test__timeout",
    "test__util",
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run gevent's own tests on greenloop.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="run these")
    options = parser.parse_args()

    install(GEVENT)
    found = sorted(path.stem for path in GEVENT.tests.glob("test_*.py"))
    modules: list[str] = []
    for pattern in options.modules or SUPPORTED:
        matching = [module for module in found if fnmatchcase(module, pattern)]
        if not matching:
            parser.error(f"no such module: {pattern}; there are {', '.join(found)}")
        modules += [module for module in matching if module not in modules]
    return conform(GEVENT, modules, every=not options.modules, times=2)


if __name__ == "__main__":
    sys.exit(main())
