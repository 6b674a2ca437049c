"""Crawl a web site from its first page, following links, with a bounded pool of greenlets.

    python -m greenloop examples/pool_crawler.py [PAGES]

It crawls a site of PAGES (60 if not given) that it starts itself, level by level. The pool bounds
how many requests are under way at once.
"""

from gevent import monkey

monkey.patch_all()

import re
import sys
import time
from urllib.parse import urljoin

import requests
from gevent.pool import Pool
from local_site import site

POOL = 10
TITLE = re.compile(r"<title>(.*)</title>")
LINK = re.compile(r'href="([^"]+)"')


def visit(url: str) -> tuple[str, set[str]]:
    """Fetch a page; return its title and the URLs it links to."""
    response = requests.get(url, timeout=30)
    response.raise_for_status()
    title = TITLE.search(response.text)
    links = {urljoin(url, link) for link in LINK.findall(response.text)}
    return title.group(1) if title else url, links


def crawl(first: str) -> list[str]:
    """Visit every page that can be reached from *first*, each once; return their titles."""
    pool = Pool(POOL)
    titles = []
    seen = level = {first}
    while level:
        linked: set[str] = set()
        for title, links in pool.imap_unordered(visit, level):
            titles.append(title)
            linked |= links
        level = linked - seen
        seen = seen | level
    return titles


def main(pages: int) -> None:
    with site(pages) as root:
        start = time.perf_counter()
        titles = crawl(f"{root}/page/1")
        elapsed = time.perf_counter() - start
    print(f"{len(titles)} pages in {elapsed:.2f} s, {POOL} at a time")
    print(f"each once: {len(set(titles)) == len(titles) == pages}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
