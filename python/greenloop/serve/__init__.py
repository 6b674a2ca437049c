"""`greenloop serve module:app`: WSGI and ASGI applications, served by processes that are watched
over.

See docs/serve.md.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ._application import LoadError
from ._bind import Listener, ListenerError, listen
from ._messages import say
from ._metrics import Metrics
from ._options import Options, OptionsError, parse

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Run the command line after `greenloop serve`, and return the exit status: 0 after an orderly
    end, 1 if the server cannot be started, 2 for options that make no sense."""
    try:
        options = parse(argv, os.environ)
    except OptionsError as error:
        print(f"greenloop serve: {error} (see greenloop serve --help)", file=sys.stderr)
        return 2
    try:
        return _serve(options)
    except (_StartError, ListenerError) as error:
        print(f"greenloop serve: {error}", file=sys.stderr)
        return 1


class _StartError(Exception):
    """The server cannot be started; the message is for the user."""


def _serve(options: Options) -> int:
    if options.chdir is not None:
        try:
            os.chdir(options.chdir)
        except OSError as error:
            raise _StartError(f"cannot go to {options.chdir}: {error.strerror}") from None
    os.environ.update(options.env)
    _check_files(options)
    if options.check:
        return _check(options)
    # Opened before workers are started: a port that is taken is told once.
    listeners: list[Listener] = []
    admin = None
    pid_file = None
    try:
        for binding in options.bind:
            # One by one: those before one that fails are to be closed.
            listeners += [listen(binding, options.backlog, options.reuse_port)]
        if options.admin is not None:
            admin = listen(options.admin, options.backlog, False)
        if options.pid is not None:
            pid_file = _write_pid(options.pid)
        return _supervise(options, listeners, admin, pid_file)
    finally:
        # A worker has no listeners any more, and a process id that is not in the file.
        if pid_file is not None:
            _remove_pid(pid_file)
        if os.getpid() == _supervisor_pid:
            for listener in (*listeners, *([admin] if admin else [])):
                listener.remove_path()


_supervisor_pid = 0


def _supervise(
    options: Options, listeners: list[Listener], admin: Listener | None, pid_file: str | None
) -> int:
    global _supervisor_pid
    from ._supervisor import InWorker, Supervisor

    _supervisor_pid = os.getpid()
    metrics = Metrics()
    scheme = "https" if options.certfile is not None else "http"
    for listener in listeners:
        where = str(listener)
        say(f"listening on {where if where.startswith('unix:') else f'{scheme}://{where}'}")
    if admin is not None:
        say(f"admin address: {admin}")
    try:
        return Supervisor(options, listeners, admin, metrics).run()
    except InWorker as worker:
        control, place, workers = worker.control, worker.place, worker.workers
    from ._worker import work

    return work(options, listeners, admin, control, place, workers, metrics)


def _check(options: Options) -> int:
    """Only say whether it could be served."""
    from ._worker import prepare

    try:
        prepare(options)
    except LoadError as error:
        if error.details:
            sys.stderr.write(error.details)
        raise _StartError(str(error)) from None
    names = [*([options.app] if options.app else []), *(name for _, name in options.mount)]
    print(f"{' and '.join(names)} can be served")
    return 0


def _check_files(options: Options) -> None:
    """Look at what is read, or written, only later. Raises _StartError."""
    if options.certfile is not None:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            for path in (options.certfile, options.keyfile, options.ca_certs):
                if path is not None:
                    with open(path, "rb"):
                        pass
            # An encrypted key would ask for a password, in each worker.
            context.load_cert_chain(options.certfile, options.keyfile, _no_password)
            if options.ca_certs is not None:
                context.load_verify_locations(options.ca_certs)
            if options.ciphers is not None:
                context.set_ciphers(options.ciphers)
        except ssl.SSLError as error:
            raise _StartError(f"certificate, key or ciphers are not right: {error}") from None
        except OSError as error:
            raise _StartError(f"cannot read {error.filename}: {error.strerror}") from None
        except ValueError as error:
            raise _StartError(str(error)) from None
    if options.statsd is not None:
        from ._statsd import resolve

        try:
            resolve(options.statsd)
        except OSError as error:
            host = options.statsd[0]
            raise _StartError(f"cannot find the StatsD {host}: {error.strerror}") from None
    if options.access_log not in (None, "-"):
        from ._access_log import AccessLog

        assert options.access_log is not None
        try:
            AccessLog(options.access_log, options.access_log_format).close()
        except OSError as error:
            raise _StartError(
                f"cannot open the access log {options.access_log}: {error.strerror}"
            ) from None


def _no_password() -> str:
    raise ValueError("the key is encrypted; greenloop serve needs one that is not")


def _write_pid(path: str) -> str:
    """Write our process id to a file; return its absolute path. Raises _StartError."""
    path = os.path.abspath(path)
    try:
        with open(path, encoding="ascii") as file:
            other = int(file.read().strip() or 0)
        if other and other != os.getpid():
            os.kill(other, 0)
            raise _StartError(f"already running: {path} is of process {other}")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        pass
    except PermissionError:
        raise _StartError(f"already running, or not readable: {path}") from None
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        os.replace(temporary, path)
    except OSError as error:
        raise _StartError(f"cannot write {path}: {error.strerror}") from None
    return path


def _remove_pid(path: str) -> None:
    """Remove the file, if it is still ours."""
    try:
        with open(path, encoding="ascii") as file:
            is_ours = file.read().strip() == str(os.getpid())
        if is_ours:
            os.unlink(path)
    except OSError:
        pass
