"""The Python examples in the documentation run, and print what stands below them.

A block opened by ```python is a program of its own; the ```text block after it, if there is one,
is its whole output. ```python greenloop marks one that the real packages do not run the same way,
```python (not run) one that is no program.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
BLOCK = re.compile(
    r"^```python(?P<kind>[^\n]*)\n(?P<code>.*?)^```\n(?:\n```text\n(?P<out>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
USE_PEER = os.environ.get("GREENLOOP_TEST_PEER") == "1"


def programs() -> Iterator[object]:
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for block in BLOCK.finditer(text):
            kind = block["kind"].strip()
            assert kind in ("", "greenloop", "(not run)"), f"{page.name}: {kind}"
            if kind == "(not run)" or (kind == "greenloop" and USE_PEER):
                continue
            line = text.count("\n", 0, block.start()) + 1
            yield pytest.param(block["code"], block["out"] or "", id=f"{page.stem}:{line}")


@pytest.mark.parametrize(("code", "output"), list(programs()))
def test_program(run_script: Any, code: str, output: str) -> None:
    assert run_script(code).check_quiet() == output
