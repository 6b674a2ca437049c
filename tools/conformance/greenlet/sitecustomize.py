"""Start-up of every process that runs greenlet's tests on greenloop, the tests' children included.

The drop-in has put greenloop in greenlet's place by now. The tests are modules of the greenlet
package: this lets `greenlet.tests` be found, in a directory that has nothing else of the peer.
"""

import os

import greenlet

assert greenlet.__name__ == "greenloop.rawgreenlet", f"the drop-in is not in place: {greenlet!r}"
vars(greenlet)["__path__"] = [os.environ["CONFORMANCE_TESTS"]]
