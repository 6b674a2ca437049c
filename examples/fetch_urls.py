"""Fetch several URLs at once with requests, which knows nothing of greenlets.

    python -m greenloop examples/fetch_urls.py [URL...]

Without URLs it fetches pages of a small site that it starts itself.
"""

from gevent import monkey

# Before anything that uses sockets is imported.
monkey.patch_all()

import sys
import time

import gevent
import requests
from local_site import site


def fetch(url: str) -> int:
    print(f"asking for {url}")
    response = requests.get(url, timeout=30)
    response.raise_for_status()
    print(f"{url}: {len(response.content)} bytes")
    return len(response.content)


def fetch_all(urls: list[str]) -> None:
    start = time.perf_counter()
    greenlets = [gevent.spawn(fetch, url) for url in urls]
    gevent.joinall(greenlets, raise_error=True)
    total = sum(greenlet.value for greenlet in greenlets)
    print(f"{len(urls)} answers, {total} bytes, {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        fetch_all(sys.argv[1:])
    else:
        with site() as root:
            fetch_all([f"{root}/page/{number}" for number in range(1, 11)])
