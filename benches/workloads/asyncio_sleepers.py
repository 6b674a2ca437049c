"""As sleepers, for event loops."""

from __future__ import annotations

from benches.harness import main
from benches.workloads.sleepers import tasks

if __name__ == "__main__":
    main(loops=tasks, size=10_000)
