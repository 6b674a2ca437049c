"""Start-up hook: run by greenloop_dropin.pth in a process whose environment says GREENLOOP_DROPIN.

It stands outside the greenloop package because it has to report that greenloop cannot be
imported. See greenloop/dropin/__init__.py for the whole.
"""

import os
import sys


def _start() -> None:
    try:
        from greenloop.dropin import install_from_environment

        install_from_environment()
    except Exception as error:
        if isinstance(error, ImportError) and "subinterpreters" in str(error):
            # Started by a program that runs already, in the main interpreter, and goes on there.
            return
        if sys.stderr is not None:
            if sys.flags.verbose:
                sys.excepthook(*sys.exc_info())
            sys.stderr.write(
                f"greenloop: {sys.executable} cannot start on greenloop as GREENLOOP_DROPIN asks: "
                f"{type(error).__name__}: {error} "
                "[unset GREENLOOP_DROPIN to run this process without greenloop]\n"
            )
            sys.stderr.flush()
        # site.py swallows any Exception raised here and goes on, and turns SystemExit into a
        # fatal interpreter error with a stack dump. Nothing of the program has run yet.
        os._exit(1)


_start()
