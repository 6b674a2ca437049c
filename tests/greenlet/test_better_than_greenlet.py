"""What greenloop promises where greenlet hangs, crashes or gets lost."""

from __future__ import annotations

import os
from typing import Any

import pytest
from greenlet import GreenletExit, getcurrent, greenlet

pytestmark = pytest.mark.skipif(
    os.environ.get("GREENLOOP_TEST_PEER") == "1", reason="what greenloop promises beyond greenlet"
)


def test_parent_that_became_a_child_while_its_child_was_dying() -> None:
    main = getcurrent()
    parent = greenlet(lambda: None)
    saved: list[greenlet] = []

    def body() -> str:
        try:
            main.switch()
        except GreenletExit:
            saved.append(getcurrent())
            parent.parent = getcurrent()
            main.switch()
        return "end"

    g = greenlet(body, parent)
    g.switch()
    del g
    # Restoring it would close a circle.
    assert saved[0].parent is main
    parent.parent = main
    assert saved.pop().switch() == "end"


def test_looking_up_run_of_a_parent_may_start_it() -> None:
    class SelfStarting(greenlet):
        lookups = 0

        def __getattribute__(self, name: str) -> Any:
            if name == "run":
                SelfStarting.lookups += 1
                if SelfStarting.lookups == 1:
                    log.append(self.switch("early"))
            return super().__getattribute__(name)

        def run(self, value: Any) -> Any:
            return value, child.switch("back")

    log: list[Any] = []
    parent = SelfStarting()
    child = greenlet(lambda: "late", parent)
    assert child.switch() == ("early", "late")
    assert log == ["back"]
