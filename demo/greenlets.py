"""Fetch through a pool of greenlets: ordinary blocking requests, patched to be cooperative."""

from gevent import monkey

monkey.patch_all()

from collections.abc import Iterable

from fetching import Job, measure
from gevent.pool import Pool

job = Job.from_command_line()


def fetch_all(urls: list[str]) -> Iterable[str | None]:
    return Pool(job.pool).imap_unordered(job.fetch, urls)


measure(job, fetch_all)
