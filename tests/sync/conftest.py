"""The primitives beyond what gevent promises; the real packages are not held to it."""

import os

collect_ignore_glob = ["test_*.py"] if os.environ.get("GREENLOOP_TEST_PEER") == "1" else []
