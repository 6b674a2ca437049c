"""Start-up of every process that runs gevent's tests on greenloop, the tests' children included.

The drop-in has put greenloop in gevent's place by now. The tests, and what is for them only, are
modules of the gevent package: this lets `gevent.tests` and `gevent.testing` be found, in a
directory that has nothing else of the peer.
"""

import os

import gevent

assert gevent.__name__ == "greenloop", f"the drop-in is not in place: {gevent!r}"
gevent.__path__.append(os.environ["CONFORMANCE_TESTS"])
