"""Fetch through a pool of native threads of the same size, with nothing patched."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed

from fetching import Job, measure

job = Job.from_command_line()


def fetch_all(urls: list[str]) -> Iterable[str | None]:
    with ThreadPoolExecutor(job.pool) as pool:
        for future in as_completed([pool.submit(job.fetch, url) for url in urls]):
            yield future.result()


measure(job, fetch_all)
