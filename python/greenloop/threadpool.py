"""Native threads that make blocking calls for greenlets. (As gevent.threadpool.)"""

from __future__ import annotations

from greenloop import _core


class ThreadPool:
    def __init__(self, maxsize, hub=None):
        self._pool = _core.WorkerPool(maxsize)

    def apply(self, func, args=(), kwds=None):
        return self._pool.apply(func, tuple(args), kwds)


def hub_threadpool(hub):
    return ThreadPool(10, hub)
