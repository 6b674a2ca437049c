"""discord.py's client, with its gateway and the thread that keeps it alive, on the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("discord")


def test_discord() -> None:
    """In this process the heart beats in a native thread."""
    import discord_program

    discord_program.run()


def test_discord_patched(run_script: Any) -> None:
    script = Path(__file__).with_name("discord_program.py")
    assert run_script(script, dropin=False).check_quiet() == "done\n"
