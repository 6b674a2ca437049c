"""Finding the application that is to be served."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

__all__ = ["LoadError", "load"]

_OUR_DIRECTORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class LoadError(Exception):
    """There is no such application. The message is for the user; `details` is a traceback of his
    own code, or empty. `files` are those that were looked at when it happened."""

    def __init__(self, message: str, error: BaseException | None = None) -> None:
        super().__init__(message)
        self.details = "" if error is None else _own_traceback(error)
        self.files = [] if error is None else _files(error)


def load(name: str, factory: bool) -> Callable[..., Any]:
    """Import an application.

    name: "module:attribute", where the attribute may have dots; or "module", for its `application`
    or `app`. factory: whether what is named returns the application when it is called.

    The current directory is put on sys.path. Raises LoadError.
    """
    module_name, separator, path = name.partition(":")
    if not module_name or (separator and not all(part.isidentifier() for part in path.split("."))):
        raise LoadError(f"expected module:name, not {name!r}")
    directory = os.getcwd()
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing == module_name or module_name.startswith(missing + "."):
            raise LoadError(f"there is no module {missing!r}") from None
        raise LoadError(f"cannot import {module_name!r}: {error}", error) from None
    except (Exception, SystemExit) as error:
        raise LoadError(f"cannot import {module_name!r}: {_describe(error)}", error) from None
    application: Any = module
    if separator:
        for part in path.split("."):
            try:
                application = getattr(application, part)
            except AttributeError:
                raise LoadError(f"module {module_name!r} has no {path!r}") from None
    else:
        path = "application" if hasattr(module, "application") else "app"
        application = getattr(module, path, None)
        if application is None:
            raise LoadError(f"module {module_name!r} has neither 'application' nor 'app'")
    if not callable(application):
        kind = type(application).__name__
        raise LoadError(f"{path!r} of module {module_name!r} is not callable: it is of type {kind}")
    if not factory:
        return application  # type: ignore[no-any-return]
    try:
        made = application()
    except (Exception, SystemExit) as error:
        raise LoadError(f"{name}() failed: {_describe(error)}", error) from None
    if not callable(made):
        kind = type(made).__name__
        raise LoadError(f"{name}() has returned what is not callable: it is of type {kind}")
    return made  # type: ignore[no-any-return]


def _describe(error: BaseException) -> str:
    text = traceback.format_exception_only(error)[-1].strip()
    return text


def _is_ours(filename: str) -> bool:
    """Whether code is this package's, or what imports modules."""
    return filename.startswith((_OUR_DIRECTORY, "<frozen importlib")) or (
        filename == importlib.__file__
    )


def _own_traceback(error: BaseException) -> str:
    """The traceback as it would be if the module had been run by itself."""
    entry: TracebackType | None = error.__traceback__
    while entry is not None and _is_ours(entry.tb_frame.f_code.co_filename):
        entry = entry.tb_next
    return "".join(traceback.format_exception(type(error), error, entry))


def _files(error: BaseException) -> list[str]:
    files = [
        frame.f_code.co_filename
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if not _is_ours(frame.f_code.co_filename)
    ]
    if isinstance(error, SyntaxError) and error.filename:
        files.append(error.filename)
    return files
