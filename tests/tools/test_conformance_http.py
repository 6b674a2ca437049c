"""Every case of `make conformance-http` is answered as it has to be."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_all_cases() -> None:
    command = [sys.executable, str(ROOT / "tools" / "conformance_http.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split(maxsplit=1)[0]) >= 150
