"""HTTP/1.1 as we read it, and as h11 and llhttp do. Two servers in a row that read the same bytes
differently let somebody smuggle a request past the first one."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from http_parsers import Reading, read_by_h11, read_by_httptools, read_ours, telling
from wsgi_support import start

__all__ = ["start"]

CASES_FILE = Path(__file__).parents[2] / "tools" / "conformance" / "http_cases.py"

PARSERS: dict[str, Callable[[bytes], Reading]] = {"h11": read_by_h11, "llhttp": read_by_httptools}

#: Why we refuse what others take: what we say, and which of them take it. Nothing can be smuggled
#: past a server that refuses.
STRICTER: dict[str, tuple[str, ...]] = {
    # The RFC forbids it, or asks for it to be refused; others are lenient.
    "HTTP/1.0 has no Transfer-Encoding": ("h11", "llhttp"),
    "a header is folded over several lines": ("h11",),
    "a header that is not allowed there is among the trailers": ("h11", "llhttp"),
    "a line contains a lone CR": ("h11",),
    "a line ends with LF alone": ("h11", "llhttp"),
    "the Content-Length is not a number": ("h11",),
    "there is more than one Content-Length": ("h11",),
    "there are both a Content-Length and a Transfer-Encoding": ("h11",),
    "the Transfer-Encoding does not end with chunked, once": ("llhttp",),
    "the extension of a chunk is malformed": ("h11", "llhttp"),
    "the size of a chunk is malformed": ("h11", "llhttp"),
    "the value of a header has control characters": ("h11",),
    "the request line is not one of HTTP/1": ("llhttp",),
    # Parsers leave it to the server that they are part of.
    "only 100-continue can be expected": ("h11", "llhttp"),
    "the Host header is malformed": ("h11", "llhttp"),
    "the Transfer-Encoding has more than chunked": ("llhttp",),
    "the form of the request target does not fit the method": ("h11", "llhttp"),
    "the request target is malformed": ("h11", "llhttp"),
    "there is more than one Host header": ("llhttp",),
    "there is no Host header": ("llhttp",),
    "this version of HTTP is not supported": ("h11", "llhttp"),
    # Limits.
    "a header is too long": ("h11", "llhttp"),
    "the extensions of chunks are too long": ("h11", "llhttp"),
    "the headers are too large together": ("h11", "llhttp"),
    "the request line is too long": ("h11", "llhttp"),
    "there are too many headers": ("h11", "llhttp"),
}

#: Why we take what others do not: which of them, and where they stop.
MORE_LENIENT: set[tuple[str, str]] = {
    # It has a list of methods; the RFC has not.
    ("llhttp", "refused: Invalid method encountered"),
    ("llhttp", "refused: Expected space after method"),
    # RFC 9112, 2.2: empty lines before a request should be ignored.
    ("h11", "refused: no request line received"),
    # White space around a value may be tabs.
    ("llhttp", "refused: Request has invalid `Transfer-Encoding`"),
    # Connections of HTTP/1.0 cannot be kept.
    ("h11", "closed"),
    # They leave the connection to whoever is to speak the other protocol that was offered.
    ("h11", "upgraded"),
    ("llhttp", "upgraded"),
}


def explain(name: str, ours: Reading, other: Reading) -> str | None:
    """Why we refuse what another parser takes; None if we do not. Fails if there is a difference
    that has no explanation."""
    count = min(len(ours.messages), len(other.messages))
    assert ours.messages[:count] == other.messages[:count]
    if len(ours.messages) > count:
        assert (name, other.end) in MORE_LENIENT
    if len(other.messages) > count:
        if ours.end == "closed" or other.end == "upgraded":
            return None
        # Otherwise we would wait for the rest of what others take for whole.
        assert ours.end.startswith("refused: ")
        return ours.end.removeprefix("refused: ")
    return None


@pytest.fixture
def cases() -> list[Any]:
    """What `make conformance-http` asks servers."""
    spec = importlib.util.spec_from_file_location("http_cases", CASES_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its classes ask for it.
    sys.modules["http_cases"] = module
    spec.loader.exec_module(module)
    return list(module.CASES)


def test_known_requests(start: Callable[..., Any], cases: list[Any]) -> None:
    server = start(telling)
    found: set[tuple[str, str]] = set()
    for case in cases:
        ours = read_ours(server, case.data)
        for name, parse in PARSERS.items():
            explanation = explain(name, ours, parse(case.data))
            if explanation is not None:
                found.add((explanation, name))
    assert found == {(text, name) for text, names in STRICTER.items() for name in names}


#: What bytes are put in for: those that something depends on.
PIECES = [
    *(bytes([byte]) for byte in b"\r\n\t \0:;,/*?#%=\"'0159afAFgxX-_\x7f\x80\xff"),
    b"\r\n",
    b"\r\n\r\n",
    b"\n\n",
    b"0\r\n\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding:\r\n chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Host: a\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HTTP/1.0",
    b"chunked",
    b"3\r\nabc\r\n",
]


def mutations(cases: list[Any], seed: int, count: int) -> Iterator[bytes]:
    """Good requests with a few bytes that are changed, one or two on a connection."""
    choose = random.Random(seed)
    whole = [
        case.data for case in cases if len(case.data) < 2000 and set(case.statuses) <= {100, 200}
    ]
    for _ in range(count):
        data = bytearray(b"".join(choose.choices(whole, k=choose.randint(1, 2))))
        for _ in range(choose.randint(1, 3)):
            at = choose.randint(0, len(data))
            match choose.randint(0, 2):
                case 0:
                    data[at:at] = choose.choice(PIECES)
                case 1:
                    del data[at : at + choose.randint(1, 4)]
                case _:
                    data[at : at + 1] = choose.choice(PIECES)
        yield bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_random_requests(start: Callable[..., Any], cases: list[Any], seed: int) -> None:
    server = start(telling)
    for data in mutations(cases, seed, 500):
        ours = read_ours(server, data)
        for name, parse in PARSERS.items():
            try:
                explain(name, ours, parse(data))
            except AssertionError:
                pytest.fail(f"{name} reads {data!r} as {parse(data)}, and we as {ours}")
