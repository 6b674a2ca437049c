"""As sleep0, for event loops."""

from __future__ import annotations

from benches.harness import main
from benches.workloads.sleep0 import tasks

if __name__ == "__main__":
    main(loops=tasks)
