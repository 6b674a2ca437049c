"""The options of `greenloop serve`: their names, what they may be, where they come from."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from greenloop._root_path import normal_mount_path, normal_root_path

from ._bind import Binding, parse_bind
from ._proxy import Peers

__all__ = ["PREFIX", "Options", "OptionsError", "parse"]

#: What the names of environment variables begin with.
PREFIX = "GREENLOOP_SERVE_"


class OptionsError(Exception):
    """The options make no sense; the message is for the user."""


@dataclass(frozen=True)
class Options:
    """What the server has been asked to do. For the meanings see `greenloop serve --help`."""

    app: str | None
    mount: tuple[tuple[str, str], ...]
    root_path: str
    interface: str
    lifespan: str
    bind: tuple[Binding, ...]
    workers: int
    backlog: int
    reuse_port: bool
    factory: bool
    chdir: str | None
    env: tuple[tuple[str, str], ...]
    patch: bool
    reload: bool
    check: bool
    pid: str | None
    certfile: str | None
    keyfile: str | None
    ca_certs: str | None
    ciphers: str | None
    access_log: str | None
    access_log_format: str
    proxy_headers: bool
    forwarded_allow_ips: Peers
    statsd: tuple[str, int] | None
    statsd_prefix: str
    admin: Binding | None
    graceful_timeout: float
    max_requests: int
    max_requests_jitter: int
    max_connections: int
    connection_requests: int
    timeout: float | None
    header_timeout: float | None
    keep_alive_timeout: float | None
    body_timeout: float | None
    write_timeout: float | None
    max_request_line: int
    max_header: int
    max_head: int
    max_headers: int
    max_body: int | None
    max_message: int
    websocket_ping: float | None
    server_header: str

    def server_settings(self) -> dict[str, Any]:
        """What a `WSGIServer` is told of limits and times."""
        return {
            "request_timeout": self.timeout,
            "header_timeout": self.header_timeout,
            "keep_alive_timeout": self.keep_alive_timeout,
            "body_timeout": self.body_timeout,
            "write_timeout": self.write_timeout,
            "max_requests": self.connection_requests,
            "max_request_line": self.max_request_line,
            "max_header": self.max_header,
            "max_head": self.max_head,
            "max_headers": self.max_headers,
            "max_body": self.max_body,
            "max_message": self.max_message,
            "websocket_ping": self.websocket_ping,
            "server_header": self.server_header,
        }

    def tls_settings(self) -> dict[str, Any]:
        """What a `WSGIServer` is told of TLS; nothing without it."""
        if self.certfile is None:
            return {}
        import ssl

        settings: dict[str, Any] = {"certfile": self.certfile, "keyfile": self.keyfile}
        if self.ca_certs is not None:
            settings.update(ca_certs=self.ca_certs, cert_reqs=ssl.CERT_REQUIRED)
        if self.ciphers is not None:
            settings["ciphers"] = self.ciphers
        return settings


# --- what texts mean; the messages of ValueError are shown after the name of the option


def _integer(least: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"expected a whole number, not {text!r}") from None
        if number < least:
            raise ValueError(f"must be at least {least}, not {number}")
        return number

    return convert


def _workers(text: str) -> int:
    if text == "auto":
        return len(os.sched_getaffinity(0))
    try:
        return _integer(1)(text)
    except ValueError as error:
        raise ValueError(f"{error} (or auto: one for each processor)") from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError(f"expected a number of seconds, not {text!r}") from None
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"must be a number of seconds, 0 or more, not {text}")
    return seconds


def _limit(text: str) -> float | None:
    """Seconds, where 0 is for no limit."""
    return _seconds(text) or None


def _body(text: str) -> int | None:
    return _integer(0)(text) or None


def _flag(text: str) -> bool:
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("", "0", "false", "no", "off"):
        return False
    raise ValueError(f"expected 1 or 0 (true or false, yes or no, on or off), not {text!r}")


def _text(text: str) -> str:
    if not text:
        raise ValueError("is empty")
    return text


def _header(text: str) -> str:
    if not text.isascii() or not (text.isprintable() or not text):
        raise ValueError("must be ASCII without control characters")
    return text


def _assignment(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise ValueError(f"expected KEY=VALUE, not {text!r}")
    return name, value


def _mount(text: str) -> tuple[str, str]:
    path, separator, name = text.partition("=")
    if not separator or not name:
        raise ValueError(f"expected PATH=APP, not {text!r}")
    return normal_mount_path(path), name


def _host_and_port(text: str) -> tuple[str, int]:
    binding = parse_bind(text)
    if binding.kind != "tcp" or not binding.host or not binding.port:
        raise ValueError(f"expected HOST:PORT, not {text!r}")
    return binding.host, binding.port


def _one_of(*words: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in words:
            expected = f"{', '.join(words[:-1])} or {words[-1]}"
            raise ValueError(f"expected {expected}, not {text!r}")
        return text

    return convert


@dataclass(frozen=True)
class _Option:
    name: str
    metavar: str | None  # None for a flag
    default: Any
    convert: Callable[[str], Any]
    help: str
    many: bool = False

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()


def _opt(
    name: str, metavar: str | None, default: Any, convert: Callable[[str], Any], help: str
) -> _Option:
    return _Option(name, metavar, default, convert, help)


# fmt: off
_GROUPS: dict[str, tuple[_Option, ...]] = {
    "the application": (
        _opt("interface", "KIND", "auto", _one_of("auto", "wsgi", "asgi"),
             "wsgi or asgi, if it cannot be seen of the application which it has (default auto)"),
        _opt("lifespan", "MODE", "auto", _one_of("auto", "on", "off"),
             "whether an ASGI application is told of start and stop: on, off, or auto for one that "
             "may not know of that (default auto)"),
        _Option("mount", "PATH=APP", (), _mount,
                "serve another application, WSGI or ASGI, below a path (may be repeated)",
                many=True),
        _opt("root_path", "PATH", "", normal_root_path,
             "where the applications are for clients, if a proxy takes this path away from the "
             "front of what they ask for (default: none is)"),
        _opt("factory", None, False, _flag, "what is named returns the application when called"),
        _opt("chdir", "DIR", None, _text, "go to this directory before anything is imported"),
        _Option("env", "KEY=VALUE", (), _assignment,
                "set an environment variable for the workers (may be repeated)", many=True),
        _opt("patch", None, True, _flag,
             "make the standard library cooperative before the application is imported: on unless "
             "--no-patch is given"),
        _opt("check", None, False, _flag,
             "only see whether options are right and the application can be imported"),
    ),
    "addresses and processes": (
        _Option("bind", "ADDRESS", (Binding("tcp", "127.0.0.1", 8000),), parse_bind,
                "HOST:PORT, [IPv6]:PORT, unix:PATH, or fd://N for a socket that is inherited "
                "(may be repeated; default 127.0.0.1:8000)", many=True),
        _opt("workers", "N", 1, _workers,
             "how many processes; auto for one for each processor (default 1)"),
        _opt("backlog", "N", 2048, _integer(1),
             "how many connections may wait to be accepted (default 2048)"),
        _opt("reuse_port", None, False, _flag,
             "let other servers listen on the same port as well (SO_REUSEPORT)"),
        _opt("reload", None, False, _flag,
             "start the workers anew when a file of an imported module changes"),
        _opt("graceful_timeout", "SECONDS", 30.0, _seconds,
             "how long requests may take to finish when workers are stopped (default 30)"),
        _opt("max_requests", "N", 0, _integer(0),
             "replace a worker after so many requests (default 0: never)"),
        _opt("max_requests_jitter", "N", 0, _integer(0),
             "and up to so many more, at random, that not all are replaced at once (default 0)"),
        _opt("pid", "FILE", None, _text, "write the supervisor's process id to a file"),
    ),
    "TLS": (
        _opt("certfile", "FILE", None, _text, "the certificate, and those that lead to its root"),
        _opt("keyfile", "FILE", None, _text, "its private key, if that is not in the same file"),
        _opt("ca_certs", "FILE", None, _text, "demand certificates of clients that these signed"),
        _opt("ciphers", "LIST", None, _text, "the ciphers to allow, as OpenSSL has them"),
    ),
    "logs and measurements": (
        _opt("access_log", "FILE", None, _text,
             "write a line for each request; - for standard output (default: none)"),
        _opt("access_log_format", "FORMAT", "combined", _one_of("common", "combined", "json"),
             "common, combined or json (default combined)"),
        _opt("statsd", "HOST:PORT", None, _host_and_port, "send measurements to a StatsD"),
        _opt("statsd_prefix", "NAME", "greenloop", _text,
             "what their names begin with (default greenloop)"),
        _opt("admin", "ADDRESS", None, parse_bind,
             "serve /metrics for Prometheus, and /health, at an address as of --bind"),
    ),
    "proxies": (
        _opt("proxy_headers", None, False, _flag,
             "believe X-Forwarded-For, -Proto and -Host of the peers below"),
        _opt("forwarded_allow_ips", "LIST", Peers.parse("127.0.0.1,::1,unix"), Peers.parse,
             "addresses and networks, unix for Unix-domain sockets, * for all; separated by commas "
             "(default 127.0.0.1,::1,unix)"),
    ),
    "limits (0 is for none)": (
        _opt("timeout", "SECONDS", None, _limit,
             "for a request and its response; then the application gets a Timeout and the client "
             "503 (default 0)"),
        _opt("header_timeout", "SECONDS", 30.0, _limit,
             "for the head of a request (default 30)"),
        _opt("keep_alive_timeout", "SECONDS", 60.0, _limit, "between requests (default 60)"),
        _opt("body_timeout", "SECONDS", 60.0, _limit,
             "in which nothing of a body comes (default 60)"),
        _opt("write_timeout", "SECONDS", 60.0, _limit,
             "in which a client takes nothing of a response (default 60)"),
        _opt("max_connections", "N", 0, _integer(0),
             "connections that a worker has open at a time; more wait (default 0)"),
        _opt("connection_requests", "N", 0, _integer(0), "requests of a connection (default 0)"),
        _opt("max_body", "BYTES", None, _body, "the largest body (default 0)"),
        _opt("max_message", "BYTES", 16 << 20, _integer(1),
             "the longest message of a WebSocket (default 16777216)"),
        _opt("websocket_ping", "SECONDS", 20.0, _limit,
             "ping a WebSocket that is quiet for so long (default 20)"),
    ),
    "limits of heads": (
        _opt("max_request_line", "BYTES", 8192, _integer(16), "(default 8192)"),
        _opt("max_header", "BYTES", 8192, _integer(16), "one header (default 8192)"),
        _opt("max_head", "BYTES", 65536, _integer(32), "all together (default 65536)"),
        _opt("max_headers", "N", 100, _integer(1), "how many (default 100)"),
        _opt("server_header", "TEXT", "", _header,
             "the value of the header Server in responses (default: none is sent)"),
    ),
}
# fmt: on

_OPTIONS = tuple(option for group in _GROUPS.values() for option in group)

_DESCRIPTION = """\
Serve a WSGI or an ASGI application: each request is handled in a greenlet, by ordinary code that
blocks, or by a coroutine on greenloop's event loop.

APP is module:name, or module for its `application` or `app`."""

_EPILOG = f"""\
Each option can be set by an environment variable: --max-requests by {PREFIX}MAX_REQUESTS.
The command line overrules the environment.

signals: HUP replaces the workers one by one; TERM and INT stop when all requests are done; QUIT
stops at once; TTIN and TTOU change the number of workers; USR1 opens the access log anew."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionsError(message)


def _parser() -> argparse.ArgumentParser:
    settings: dict[str, Any] = {}
    if sys.version_info >= (3, 14):
        settings["color"] = False
    parser = _Parser(
        prog="greenloop serve",
        usage="greenloop serve [options] APP",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        **settings,
    )
    parser.add_argument("app", metavar="APP", nargs="?", help=argparse.SUPPRESS)
    for title, options in _GROUPS.items():
        group = parser.add_argument_group(title)
        for option in options:
            if option.metavar is not None:
                action = "append" if option.many else "store"
                group.add_argument(
                    option.flag, metavar=option.metavar, action=action, help=option.help
                )
            elif option.default:
                no = option.flag.replace("--", "--no-", 1)
                group.add_argument(
                    no, dest=option.name, action="store_const", const="0", help=option.help
                )
            else:
                group.add_argument(option.flag, action="store_const", const="1", help=option.help)
    return parser


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Options:
    """The options of a command line, and of the environment.

    argv: the words after `serve`. environ: the environment variables.

    Raises OptionsError. Prints the help and raises SystemExit if that is asked for.
    """
    given = vars(_parser().parse_args(argv))
    values: dict[str, Any] = {}
    for option in _OPTIONS:
        if option.name in given:
            values[option.name] = _convert(option, given[option.name], option.flag)
        elif option.variable in environ:
            text = environ[option.variable]
            if option.many:
                words = (
                    text.split()
                    if option.name in ("env", "mount")
                    else text.replace(",", " ").split()
                )
                values[option.name] = _convert(option, words, option.variable) or option.default
            else:
                values[option.name] = _convert(option, text, option.variable)
        else:
            values[option.name] = option.default
    app = given.get("app") or environ.get(PREFIX + "APP") or None
    if not app and not values["mount"]:
        raise OptionsError("no application given, as in greenloop serve module:app")
    options = Options(app=app, **values)
    _check_together(options)
    return options


def _convert(option: _Option, given: Any, name: str) -> Any:
    try:
        if option.many:
            return tuple(option.convert(word) for word in given)
        return option.convert(given)
    except ValueError as error:
        raise OptionsError(f"{name}: {error}") from None


def _check_together(options: Options) -> None:
    if options.certfile is None:
        for name in ("keyfile", "ca_certs", "ciphers"):
            if getattr(options, name) is not None:
                raise OptionsError(f"--{name.replace('_', '-')} needs --certfile")
    paths = [path for path, _ in options.mount]
    for path in paths:
        if paths.count(path) > 1:
            raise OptionsError(f"two applications are mounted at {path}")
    seen = set()
    for binding in (*options.bind, *([options.admin] if options.admin else [])):
        if binding in seen and (binding.kind != "tcp" or binding.port):
            raise OptionsError(f"{binding} is given twice")
        seen.add(binding)
    if options.max_requests_jitter and not options.max_requests:
        raise OptionsError("--max-requests-jitter needs --max-requests")
