"""`gather` of `size` coroutines that do nothing. As spawn_joinall, for event loops."""

from __future__ import annotations

from benches.harness import main
from benches.workloads.spawn_joinall import tasks

if __name__ == "__main__":
    main(loops=tasks, size=50_000)
