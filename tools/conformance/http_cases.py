"""What servers are asked by `make conformance-http`: requests that are malformed, ambiguous or at a
boundary, what the answer has to be, and whether the connection may go on after it.

The application that answers echoes the body of a request.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CASES", "Case"]

HOST = "Host: example.org\r\n"
END = "\r\n"


@dataclass(frozen=True)
class Case:
    """A question to a server.

    name: a word or two about it; what comes before the colon is the group.
    data: what is sent.
    statuses: of the answers, in order. A request that is refused is the last one.
    survives: whether the connection takes another request after that.
    bodies: of the answers that are not errors, where they matter.
    """

    name: str
    data: bytes
    statuses: tuple[int, ...]
    survives: bool
    bodies: tuple[bytes, ...] | None = None


CASES: list[Case] = []


def case(
    name: str,
    data: str | bytes,
    *statuses: int,
    survives: bool | None = None,
    bodies: tuple[bytes, ...] | None = None,
) -> None:
    """Add a case. By default a connection goes on after 200 and after nothing else."""
    if isinstance(data, str):
        data = data.encode("latin-1")
    if survives is None:
        survives = all(status == 200 for status in statuses)
    CASES.append(Case(name, data, statuses, survives, bodies))


def line(name: str, request_line: str, *statuses: int, survives: bool | None = None) -> None:
    """A case about the request line."""
    case(f"request line: {name}", f"{request_line}\r\n{HOST}{END}", *statuses, survives=survives)


def header(name: str, lines: str, *statuses: int, survives: bool | None = None) -> None:
    """A case about headers, without their last line end."""
    data = f"GET / HTTP/1.1\r\n{HOST}{lines}\r\n{END}"
    case(f"header: {name}", data, *statuses, survives=survives)


def host(name: str, lines: str, *statuses: int, survives: bool | None = None) -> None:
    """A case about the header Host: all headers there are."""
    case(f"host: {name}", f"GET / HTTP/1.1\r\n{lines}{END}", *statuses, survives=survives)


def length(name: str, lines: str, body: str, *statuses: int, **options: object) -> None:
    """A case about how a body is delimited."""
    data = f"POST / HTTP/1.1\r\n{HOST}{lines}{END}{body}"
    case(f"length: {name}", data, *statuses, **options)  # type: ignore[arg-type]


def chunks(name: str, body: str, *statuses: int, **options: object) -> None:
    """A case about a body in chunks."""
    data = f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n{END}{body}"
    case(f"chunks: {name}", data, *statuses, **options)  # type: ignore[arg-type]


# --- the request line

line("plain", "GET / HTTP/1.1", 200)
line("a method of its own", "BREW / HTTP/1.1", 200)
line("lower case is another method", "get / HTTP/1.1", 200)
line("all characters of a token", "!#$%&'*+-.^_`|~aZ09 / HTTP/1.1", 200)
line("two spaces", "GET  / HTTP/1.1", 400)
line("two spaces before the version", "GET /  HTTP/1.1", 400)
line("space before", " GET / HTTP/1.1", 400)
line("space after", "GET / HTTP/1.1 ", 400)
line("tabs", "GET\t/\tHTTP/1.1", 400)
line("a space in the target", "GET /a b HTTP/1.1", 400)
line("no target", "GET HTTP/1.1", 400)
line("no version", "GET /", 400)
line("only a method", "GET", 400)
line("a comma in the method", "GE,T / HTTP/1.1", 400)
line("a colon in the method", "GET: / HTTP/1.1", 400)
line("a parenthesis in the method", "GET( / HTTP/1.1", 400)
line("a letter beyond ASCII in the method", "G\xc9T / HTTP/1.1", 400)
line("a control character in the target", "GET /\x01 HTTP/1.1", 400)
line("NUL in the target", "GET /\0 HTTP/1.1", 400)
line("DEL in the target", "GET /\x7f HTTP/1.1", 400)
line("CR in the target", "GET /\r HTTP/1.1", 400)
line("CR before the version", "GET / \rHTTP/1.1", 400)
line("version in lower case", "GET / http/1.1", 400)
line("version without minor", "GET / HTTP/1", 400)
line("version with two digits", "GET / HTTP/1.10", 400)
line("version with leading zero", "GET / HTTP/01.1", 400)
line("version with a space", "GET / HTTP/1. 1", 400)
line("another protocol", "GET / HTTPS/1.1", 400)
line("version 0.9", "GET / HTTP/0.9", 505)
line("version 1.2", "GET / HTTP/1.2", 505)
line("version 2.0", "GET / HTTP/2.0", 505)
line("version 3.0", "GET / HTTP/3.0", 505)
line("preface of HTTP/2", "PRI * HTTP/2.0", 505)
line("8,192 characters", "GET /" + "a" * (8192 - len("GET / HTTP/1.1")) + " HTTP/1.1", 200)
line("8,193 characters", "GET /" + "a" * (8193 - len("GET / HTTP/1.1")) + " HTTP/1.1", 414)
line("100,000 characters", "GET /" + "a" * 100_000 + " HTTP/1.1", 414)
case("request line: LF alone", f"GET / HTTP/1.1\n{HOST}{END}", 400)
case("request line: CR alone", f"GET / HTTP/1.1\r{HOST}{END}", 400)
case("request line: CR CR LF", f"GET / HTTP/1.1\r\r\n{HOST}{END}", 400)
case("request line: HTTP/0.9", "GET /\r\n", 400)
case("request line: TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 50, 400)
case("request line: zeros", b"\0" * 100, 400)
case("request line: SSH", "SSH-2.0-OpenSSH_9.2\r\n\r\n", 400)
case("request line: an empty line before", f"\r\nGET / HTTP/1.1\r\n{HOST}{END}", 200)
case("request line: three empty lines before", f"\r\n\r\n\r\nGET / HTTP/1.1\r\n{HOST}{END}", 200)
case("request line: 100 empty lines before", "\r\n" * 100 + f"GET / HTTP/1.1\r\n{HOST}{END}", 400)
case("request line: LF before", f"\nGET / HTTP/1.1\r\n{HOST}{END}", 400)

# --- the target

line("a query", "GET /?a=b&c=%20 HTTP/1.1", 200)
line("an empty query", "GET /? HTTP/1.1", 200)
line("two slashes", "GET //a HTTP/1.1", 200)
line("a fragment", "GET /#a HTTP/1.1", 400)
line("a broken escape", "GET /%zz HTTP/1.1", 200)
line("an escaped NUL", "GET /%00 HTTP/1.1", 200)
line("relative", "GET a HTTP/1.1", 400)
line("absolute", "GET http://example.org/ HTTP/1.1", 200)
line("absolute, without a path", "GET http://example.org HTTP/1.1", 200)
line("absolute, https", "GET https://example.org:443/a?b HTTP/1.1", 200)
line("absolute, upper case", "GET HTTP://EXAMPLE.ORG/ HTTP/1.1", 200)
line("absolute, IPv6", "GET http://[::1]:80/ HTTP/1.1", 200)
line("absolute, without a host", "GET http:///a HTTP/1.1", 400)
line("absolute, with a user", "GET http://user@example.org/ HTTP/1.1", 400)
line("absolute, with a broken port", "GET http://example.org:8x/ HTTP/1.1", 400)
line("absolute, of another scheme", "GET ftp://example.org/ HTTP/1.1", 400)
line("absolute, one slash", "GET http:/example.org/ HTTP/1.1", 400)
line("asterisk", "OPTIONS * HTTP/1.1", 200)
line("asterisk of GET", "GET * HTTP/1.1", 400)
line("CONNECT without a port", "CONNECT example.org HTTP/1.1", 400)
line("CONNECT of a path", "CONNECT / HTTP/1.1", 400)

# --- the host

host("none", "", 400)
host("empty", "Host:\r\n", 200)
host("with a port", "Host: example.org:8080\r\n", 200)
host("IPv4", "Host: 127.0.0.1\r\n", 200)
host("IPv6", "Host: [::1]:8080\r\n", 200)
host("twice the same", "Host: a\r\nHost: a\r\n", 400)
host("twice", "Host: a\r\nHost: b\r\n", 400)
host("twice, in another case", "Host: a\r\nHOST: a\r\n", 400)
host("a list", "Host: a, b\r\n", 400)
host("a space", "Host: a b\r\n", 400)
host("a path", "Host: a/b\r\n", 400)
host("a query", "Host: a?b\r\n", 400)
host("a user", "Host: user@a\r\n", 400)
host("a scheme", "Host: http://a\r\n", 400)
host("two ports", "Host: a:1:2\r\n", 400)
host("a port that is none", "Host: a:b\r\n", 400)
host("a negative port", "Host: a:-1\r\n", 400)
host("broken IPv6", "Host: [::1\r\n", 400)
host("a name in brackets", "Host: [a]\r\n", 400)
host("a backslash", "Host: a\\b\r\n", 400)
host("a quote", 'Host: a"b\r\n', 400)
case("host: none, HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", 200, survives=False)
case("host: twice, HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400)

# --- headers

header("an empty value", "X:", 200)
header("no space", "X:y", 200)
header("space around", "X: \t y \t", 200)
header("a tab in the value", "X: a\tb", 200)
header("letters beyond ASCII in the value", "X: \xe9\xff", 200)
header("all characters of a token", "!#$%&'*+-.^_`|~09aZ: x", 200)
header("the same twice", "X: a\r\nX: b", 200)
header("space before the colon", "X : y", 400)
header("tab before the colon", "X\t: y", 400)
header("space in the name", "X Y: z", 400)
header("no name", ": y", 400)
header("no colon", "X", 400)
header("space before the name", " X: y", 400)
header("tab before the name", "\tX: y", 400)
header("folded", "X: y\r\n z", 400)
header("folded by a tab", "X: y\r\n\tz", 400)
header("folded, empty", "X: y\r\n ", 400)
header("NUL in the value", "X: a\0b", 400)
header("NUL in the name", "X\0: y", 400)
header("a control character in the value", "X: a\x01b", 400)
header("DEL in the value", "X: a\x7fb", 400)
header("escape in the value", "X: a\x1bb", 400)
header("vertical tab in the value", "X: \x0by", 400)
header("CR in the value", "X: a\rb", 400)
header("CR before CR LF", "X: a\r", 400)
header("LF in the value", "X: a\nY: b", 400)
header("LF, CR LF", "X: a\n\r\nY: b", 400)
header("a letter beyond ASCII in the name", "\xc9: y", 400)
header("a parenthesis in the name", "X(: y", 400)
header("a slash in the name", "X/Y: z", 400)
header("a quote in the name", '"X": y', 400)
header("a comma in the name", "X,Y: z", 400)
header("an underscore in the name", "X_Y: z", 200)
header("8,192 characters", "X: " + "a" * 8189, 200)
header("8,193 characters", "X: " + "a" * 8190, 431)
header("100 headers", "\r\n".join(f"X-{number}: y" for number in range(99)), 200)
header("101 headers", "\r\n".join(f"X-{number}: y" for number in range(100)), 431)
header("100,000 bytes", "\r\n".join(f"X-{number}: " + "y" * 4000 for number in range(25)), 431)
case("header: LF ends the head", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400)
case("header: all lines end with LF", "GET / HTTP/1.1\nHost: a\n\n", 400)

# --- lengths of bodies

length("0", "Content-Length: 0\r\n", "", 200, bodies=(b"",))
length("5", "Content-Length: 5\r\n", "hello", 200, bodies=(b"hello",))
length("leading zeros", "Content-Length: 005\r\n", "hello", 200, bodies=(b"hello",))
length("space around", "Content-Length:  5 \r\n", "hello", 200, bodies=(b"hello",))
length("none, of POST", "", "", 200, bodies=(b"",))
length("negative", "Content-Length: -5\r\n", "hello", 400)
length("plus", "Content-Length: +5\r\n", "hello", 400)
length("hexadecimal", "Content-Length: 0x5\r\n", "hello", 400)
length("a fraction", "Content-Length: 5.0\r\n", "hello", 400)
length("an exponent", "Content-Length: 5e0\r\n", "hello", 400)
length("an underscore", "Content-Length: 0_5\r\n", "hello", 400)
length("a space inside", "Content-Length: 0 5\r\n", "hello", 400)
length("empty", "Content-Length:\r\n", "hello", 400)
length("a word", "Content-Length: five\r\n", "hello", 400)
length("a letter after", "Content-Length: 5a\r\n", "hello", 400)
length("a digit beyond ASCII", "Content-Length: \xb2\r\n", "hello", 400)
length("a quoted number", 'Content-Length: "5"\r\n', "hello", 400)
length("beyond 64 bits", "Content-Length: 99999999999999999999\r\n", "", 413)
length("wraps to 5", "Content-Length: 18446744073709551621\r\n", "hello", 413)
length("a list of the same", "Content-Length: 5, 5\r\n", "hello", 400)
length("a list", "Content-Length: 5, 6\r\n", "hello", 400)
length("twice the same", "Content-Length: 5\r\nContent-Length: 5\r\n", "hello", 400)
length("twice", "Content-Length: 5\r\nContent-Length: 6\r\n", "hello", 400)
length("twice, in another case", "Content-Length: 5\r\ncontent-length: 0\r\n", "hello", 400)
length("with chunks", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", 400)
length("after chunks", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n", 400)
length("chunked in upper case", "Transfer-Encoding: CHUNKED\r\n", "0\r\n\r\n", 200)
length("chunked twice", "Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n", 400)
length(
    "chunked in two headers",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "0\r\n\r\n",
    400,
)
length("identity", "Transfer-Encoding: identity\r\n", "", 400)
length("identity, chunked", "Transfer-Encoding: identity, chunked\r\n", "0\r\n\r\n", 501)
length("gzip", "Transfer-Encoding: gzip\r\n", "", 400)
length("gzip, chunked", "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n", 501)
length("chunked, gzip", "Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n", 400)
length("chunked and a parameter", "Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n", 400)
length("nearly chunked", "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n", 400)
length("nearly chunked too", "Transfer-Encoding: chunked1\r\n", "0\r\n\r\n", 400)
length("chunked in quotes", 'Transfer-Encoding: "chunked"\r\n', "0\r\n\r\n", 400)
length("chunked after an empty element", "Transfer-Encoding: , chunked\r\n", "0\r\n\r\n", 400)
length("vertical tab before chunked", "Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n", 400)
length("empty coding", "Transfer-Encoding:\r\n", "0\r\n\r\n", 400)
length("space before the colon", "Transfer-Encoding : chunked\r\n", "0\r\n\r\n", 400)
length("folded coding", "Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n", 400)
case(
    "length: chunked, HTTP/1.0",
    "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    400,
)
case(
    "length: of GET",
    f"GET / HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nhello",
    200,
    bodies=(b"hello",),
)
case(
    "length: 5, HTTP/1.0",
    "POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
    200,
    survives=False,
    bodies=(b"hello",),
)

# --- chunks

chunks("one", "5\r\nhello\r\n0\r\n\r\n", 200, bodies=(b"hello",))
chunks("several", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", 200, bodies=(b"hello",))
chunks("none", "0\r\n\r\n", 200, bodies=(b"",))
chunks("leading zeros", "0005\r\nhello\r\n00\r\n\r\n", 200, bodies=(b"hello",))
chunks("hexadecimal", "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", 200)
chunks("extension", "5;a=b\r\nhello\r\n0;c\r\n\r\n", 200, bodies=(b"hello",))
chunks("quoted extension", '5;a="b c"\r\nhello\r\n0\r\n\r\n', 200, bodies=(b"hello",))
chunks("trailers", "5\r\nhello\r\n0\r\nX: y\r\nZ: \r\n\r\n", 200, bodies=(b"hello",))
chunks("CR LF in data", "2\r\n\r\n\r\n0\r\n\r\n", 200, bodies=(b"\r\n",))
chunks("no size", "\r\nhello\r\n0\r\n\r\n", 400)
chunks("a word", "five\r\nhello\r\n0\r\n\r\n", 400)
chunks("0x", "0x5\r\nhello\r\n0\r\n\r\n", 400)
chunks("plus", "+5\r\nhello\r\n0\r\n\r\n", 400)
chunks("negative", "-5\r\nhello\r\n0\r\n\r\n", 400)
chunks("underscore", "0_5\r\nhello\r\n0\r\n\r\n", 400)
chunks("space before", " 5\r\nhello\r\n0\r\n\r\n", 400)
chunks("space after", "5 \r\nhello\r\n0\r\n\r\n", 400)
chunks("tab after", "5\t\r\nhello\r\n0\r\n\r\n", 400)
chunks("space before extension", "5 ;a\r\nhello\r\n0\r\n\r\n", 400)
chunks("a letter after", "5g\r\nhello\r\n0\r\n\r\n", 400)
chunks("a comma", "5,5\r\nhello\r\n0\r\n\r\n", 400)
chunks("17 digits", "00000000000000005\r\nhello\r\n0\r\n\r\n", 400)
chunks("wraps to 5", "10000000000000005\r\nhello\r\n0\r\n\r\n", 400)
chunks("LF after size", "5\nhello\r\n0\r\n\r\n", 400)
chunks("CR after size", "5\rhello\r\n0\r\n\r\n", 400)
chunks("LF in extension", "5;a\nhello\r\n0\r\n\r\n", 400)
chunks("CR in extension", "5;a\rb\r\nhello\r\n0\r\n\r\n", 400)
chunks("quote that is not closed", '5;a="\r\nhello\r\n0\r\n\r\n', 400)
chunks("backslash in a quote", '5;a="\\"";b="\x80"\r\nhello\r\n0\r\n\r\n', 200, bodies=(b"hello",))
chunks("extension without a name", "5;\r\nhello\r\n0\r\n\r\n", 400)
chunks("extension without a value", "5;a=\r\nhello\r\n0\r\n\r\n", 400)
chunks("space in extension", "5; a\r\nhello\r\n0\r\n\r\n", 400)
chunks("NUL in extension", "5;\0\r\nhello\r\n0\r\n\r\n", 400)
chunks("a long extension", "5;" + "a" * 5000 + "\r\nhello\r\n0\r\n\r\n", 400)
chunks("many extensions", "1;aaaaaaaaa\r\nh\r\n" * 1000 + "0\r\n\r\n", 400)
chunks("LF after data", "5\r\nhello\n0\r\n\r\n", 400)
chunks("CR after data", "5\r\nhello\r0\r\n\r\n", 400)
chunks("no end of data", "5\r\nhello0\r\n\r\n", 400)
chunks("too much data", "5\r\nhello world\r\n0\r\n\r\n", 400)
chunks("too little data", "6\r\nhello\r\n0\r\n\r\n", 400)
chunks("LF at the end", "0\r\n\n", 400)
chunks("LF after a trailer", "0\r\nX: y\n\r\n", 400)
chunks("a broken trailer", "0\r\nX\r\n\r\n", 400)
chunks("a folded trailer", "0\r\nX: y\r\n z\r\n\r\n", 400)
chunks("space before the colon of a trailer", "0\r\nX : y\r\n\r\n", 400)
chunks("NUL in a trailer", "0\r\nX: \0\r\n\r\n", 400)
chunks("length among trailers", "0\r\nContent-Length: 5\r\n\r\n", 400)
chunks("coding among trailers", "0\r\nTransfer-Encoding: chunked\r\n\r\n", 400)
chunks("host among trailers", "0\r\nHost: b\r\n\r\n", 400)
chunks("large trailers", "0\r\n" + "X: yyyyyyyyyyyyyyyy\r\n" * 5000 + "\r\n", 431)

# --- connections

GET = f"GET / HTTP/1.1\r\n{HOST}"
case("connection: close", f"{GET}Connection: close\r\n\r\n", 200, survives=False)
case("connection: close in a list", f"{GET}Connection: x, Close\r\n\r\n", 200, survives=False)
case(
    "connection: close in the second",
    f"{GET}Connection: x\r\nConnection: close\r\n\r\n",
    200,
    survives=False,
)
case("connection: keep-alive", f"{GET}Connection: keep-alive\r\n\r\n", 200)
case("connection: nearly close", f"{GET}Connection: closed\r\n\r\n", 200)
case("connection: HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", 200, survives=False)
case("connection: HTTP/1.0, keep-alive", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200)
case("connection: HTTP/1.0, Keep-Alive", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 200)
case(
    "connection: both, HTTP/1.0",
    "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
    200,
    survives=False,
)
case("connection: three requests at once", f"{GET}\r\n" * 3, 200, 200, 200)
case(
    "connection: bodies in a row",
    f"POST / HTTP/1.1\r\n{HOST}Content-Length: 1\r\n\r\na"
    f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\n\r\n"
    f"\r\nPOST / HTTP/1.1\r\n{HOST}Content-Length: 1\r\n\r\nc",
    200,
    200,
    200,
    bodies=(b"a", b"b", b"c"),
)
case("connection: a bad one after a good one", f"{GET}\r\nGET / HTTP/9.9\r\n\r\n", 200, 505)
case(
    "connection: none after close", f"{GET}Connection: close\r\n\r\n{GET}\r\n", 200, survives=False
)
case(
    "connection: rubbish after a body",
    f"POST / HTTP/1.1\r\n{HOST}Content-Length: 1\r\n\r\nab\r\n\r\n",
    200,
    400,
    bodies=(b"a",),
)
case("connection: an upgrade nobody knows", f"{GET}Connection: upgrade\r\nUpgrade: x\r\n\r\n", 200)
case(
    "connection: an upgrade to h2c",
    f"{GET}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    200,
)

# --- expectations

case(
    "expect: 100-continue",
    f"POST / HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    100,
    200,
    survives=True,
    bodies=(b"hello",),
)
case("expect: 100-continue without a body", f"{GET}Expect: 100-continue\r\n\r\n", 200)
case(
    "expect: something else",
    f"POST / HTTP/1.1\r\n{HOST}Expect: 200-ok\r\nContent-Length: 5\r\n\r\nhello",
    417,
)
case(
    "expect: 100-continue, HTTP/1.0",
    "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    200,
    survives=False,
    bodies=(b"hello",),
)
