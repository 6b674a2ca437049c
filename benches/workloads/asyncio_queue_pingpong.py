"""As queue_pingpong, for event loops."""

from __future__ import annotations

from benches.harness import main
from benches.workloads.queue_pingpong import tasks

if __name__ == "__main__":
    main(loops=tasks)
