"""Benchmarks of greenloop against greenlet, gevent, asyncio, uvloop and rloop."""
