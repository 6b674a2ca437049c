"""A progress bar on standard error."""

from __future__ import annotations

import sys
import time

WIDTH = 40
# Seconds between two drawings: drawing is not what is being measured.
INTERVAL = 0.1


class Progress:
    """One line that is drawn over itself; nothing where standard error is not a terminal."""

    def __init__(self, label: str, total: int) -> None:
        self._label = label
        self._total = total
        self._due = 0.0
        self._live = sys.stderr.isatty()

    def show(self, done: int) -> None:
        """Draw the bar for *done* of the total, unless it was drawn a moment ago."""
        if not self._live:
            return
        now = time.monotonic()
        if now < self._due and done < self._total:
            return
        self._due = now + INTERVAL
        filled = WIDTH * done // self._total
        bar = "#" * filled + "." * (WIDTH - filled)
        sys.stderr.write(f"\r{self._label:<24} [{bar}] {done}/{self._total}")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave the line."""
        if self._live:
            sys.stderr.write("\n")
