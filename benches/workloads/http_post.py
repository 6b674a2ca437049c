"""Requests with a body of 64 KiB, which the application reads and answers with."""

from pathlib import Path

from benches.http_load import main_application

SCRIPT = Path(__file__).resolve().parent.parent / "companions" / "post.lua"

if __name__ == "__main__":
    main_application("echo", "--script", str(SCRIPT))
