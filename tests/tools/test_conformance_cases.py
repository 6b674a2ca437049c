"""Running the peer's tests and comparing the outcomes: nothing that differs may be overlooked."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    sys.path.insert(0, str(TOOLS))
    try:
        spec = importlib.util.spec_from_file_location(
            "conformance_cases", TOOLS / "conformance_cases.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(TOOLS))
    return module


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The directory of an empty package greenlet.tests."""
    tests = tmp_path / "greenlet" / "tests"
    tests.mkdir(parents=True)
    (tests.parent / "__init__.py").touch()
    (tests / "__init__.py").touch()
    return tests


def at(tool: Any, directory: Path, time_limit: float = 60) -> Any:
    """A peer whose reports are written there."""

    class Here(tool.Peer):  # type: ignore[misc]
        work = directory

    return Here("greenlet", "1.2", time_limit=time_limit)


def run(
    tool: Any, package: Path, source: str, time_limit: float = 60
) -> dict[str, tuple[str, str]]:
    """Kind and detail of what became of each case of a module with this source."""
    (package / "test_it.py").write_text(dedent(source))
    peer = at(tool, package, time_limit)
    runs = tool.Run("it", peer, {**os.environ, "PYTHONPATH": str(package.parent.parent)})
    runs.add_module("test_it")
    return {test: (outcome.kind, outcome.detail) for test, outcome in runs.outcomes.items()}


def made(tool: Any, kinds: dict[str, str]) -> Any:
    """A run with these outcomes; what comes after a colon is the detail."""
    outcomes = {
        test: tool.Outcome(*(word.strip() for word in kind.partition(":")[::2]))
        for test, kind in kinds.items()
    }
    modules = {test: test.split(".")[0] for test in outcomes}
    return tool.Run("made", tool.Peer("greenlet", "1.2"), {}, outcomes, modules)


def test_outcomes(tool: Any, package: Path) -> None:
    found = run(
        tool,
        package,
        """
        import unittest

        class Test(unittest.TestCase):
            def test_passing(self): pass
            def test_failing(self): self.fail("so it is")
            def test_raising(self): raise LookupError
            @unittest.skip("not here")
            def test_skipped(self): pass
            @unittest.expectedFailure
            def test_expected(self): self.fail()
            @unittest.expectedFailure
            def test_unexpected(self): pass
            def test_parts(self):
                for part in range(3):
                    with self.subTest(part=part):
                        self.assertNotEqual(part, 1)
        """,
    )
    assert {test.removeprefix("test_it.Test.test_"): kind for test, (kind, _) in found.items()} == {
        "passing": "passed",
        "failing": "failed",
        "raising": "failed",
        "skipped": "skipped",
        "expected": "passed",
        "unexpected": "failed",
        "parts": "failed",
    }
    assert "so it is" in found["test_it.Test.test_failing"][1]
    assert "LookupError" in found["test_it.Test.test_raising"][1]


def test_crash_costs_what_it_cuts_off(tool: Any, package: Path) -> None:
    found = run(
        tool,
        package,
        """
        import os, signal, unittest

        class Test(unittest.TestCase):
            def test_1(self): pass
            def test_2(self): os.kill(os.getpid(), signal.SIGKILL)
            def test_3(self): pass
        """,
    )
    (first, _), (second, why), (third, why_not) = found.values()
    assert (first, second, third) == ("passed", "lost", "lost")
    assert "SIGKILL while it ran" in why
    assert "SIGKILL" in why_not
    assert "test_2" in why_not


def test_hang_is_cut_off(tool: Any, package: Path) -> None:
    found = run(tool, package, "import time\nwhile True: time.sleep(1)\n", time_limit=0.01)
    ((kind, why),) = found.values()
    assert kind == "lost"
    assert "still running" in why


def stdlib(tool: Any, directory: Path, source: str, apart: frozenset[str] = frozenset()) -> Any:
    """A run of a module with this source as one of the interpreter's own tests."""

    class Here(tool.Peer):  # type: ignore[misc]
        work = directory

    (directory / "greenloop_cases.py").write_text(dedent(source))
    # Their package is taken from the interpreter; this is a module in it.
    (directory / "sitecustomize.py").write_text(
        f"import test; test.__path__.append({str(directory)!r})"
    )
    # A process has to start in that time, on a busy machine as well.
    peer = Here("stdlib", "1.2", case_limit=15, restarts=3)
    environment = {**os.environ, "PYTHONPATH": str(directory)}
    runs = tool.Run("it", peer, environment, apart=apart)
    runs.add_module("greenloop_cases")
    return {
        test.removeprefix("greenloop_cases."): outcome.kind
        for test, outcome in runs.outcomes.items()
    }


def test_others_run_after_one_that_crashes_or_hangs(tool: Any, tmp_path: Path) -> None:
    found = stdlib(
        tool,
        tmp_path,
        """
        import os, signal, time, unittest

        class Test(unittest.TestCase):
            def test_1(self): pass
            def test_2(self): os.kill(os.getpid(), signal.SIGKILL)
            def test_3(self): pass
            def test_4(self): time.sleep(1000)
            def test_5(self): pass
        """,
    )
    assert found == {
        "Test.test_1": "passed",
        "Test.test_2": "lost",
        "Test.test_3": "passed",
        "Test.test_4": "lost",
        "Test.test_5": "passed",
        "end": "passed",
    }


def test_process_that_does_not_end(tool: Any, tmp_path: Path) -> None:
    found = stdlib(
        tool,
        tmp_path,
        """
        import threading, time, unittest

        class Test(unittest.TestCase):
            def test_1(self): threading.Thread(target=time.sleep, args=(1000,)).start()
        """,
    )
    assert found == {"Test.test_1": "passed", "end": "lost"}


def test_case_that_leaves_a_thread_runs_apart(tool: Any, tmp_path: Path) -> None:
    found = stdlib(
        tool,
        tmp_path,
        """
        import threading, time, unittest

        class Test(unittest.TestCase):
            def test_1(self):
                threading.Thread(target=time.sleep, args=(1000,)).start()
                self.fail()
            def test_2(self): self.assertEqual(threading.active_count(), 1)
        """,
        frozenset({"greenloop_cases.Test.test_1", "another.Test.test_1"}),
    )
    assert found == {"Test.test_1": "failed", "Test.test_2": "passed", "end": "passed"}


def test_class_that_cannot_be_set_up_is_not_begun_again(tool: Any, tmp_path: Path) -> None:
    found = stdlib(
        tool,
        tmp_path,
        """
        import unittest

        class Test(unittest.TestCase):
            @classmethod
            def setUpClass(cls): raise LookupError
            def test_1(self): pass
        """,
    )
    assert found["Test.test_1"] == "lost"
    assert found["end"] == "passed"


def test_module_that_cannot_be_loaded_is_told(tool: Any, package: Path) -> None:
    found = run(tool, package, "raise LookupError('at the start')\n")
    ((kind, why),) = found.values()
    assert kind == "lost"
    assert "at the start" in why


def test_same_outcomes_are_no_error(tool: Any) -> None:
    peer = made(tool, {"a.T.a": "passed", "a.T.b": "skipped: why", "a.T.c": "failed: here too"})
    ours = made(tool, {"a.T.a": "passed", "a.T.b": "failed: so", "a.T.c": "failed: so"})
    lines, errors = tool.compare(peer, ours, {})
    assert errors == 0
    assert any(line.startswith("1 passed of 1 that the peer itself passes") for line in lines)


@pytest.mark.parametrize("kind", ["failed: so", "skipped: no", "lost: SIGSEGV"])
def test_whatever_is_not_passed_is_an_error(tool: Any, kind: str) -> None:
    lines, errors = tool.compare(made(tool, {"a.T.a": "passed"}), made(tool, {"a.T.a": kind}), {})
    assert errors == 1
    assert "  DIFFERS: a.T.a" in lines


def test_case_that_is_not_there_is_an_error(tool: Any) -> None:
    lines, errors = tool.compare(
        made(tool, {"a.T.a": "passed"}), made(tool, {"loader.a": "failed: ImportError"}), {}
    )
    assert errors == 1
    assert "only on greenloop: loader.a: failed" in lines


def test_listed_difference_is_none(tool: Any) -> None:
    listed = {"a.T.a": tool.Listed("it measures", "not equal")}
    peer = made(tool, {"a.T.a": "passed"})
    lines, errors = tool.compare(peer, made(tool, {"a.T.a": "failed: is not equal"}), listed)
    assert errors == 0
    assert "    it measures" in lines
    _, errors = tool.compare(peer, made(tool, {"a.T.a": "failed: something else"}), listed)
    assert errors == 1


def test_program_that_fails_may_be_listed(tool: Any) -> None:
    """One that is no unittest is a case called run, if it comes to that."""
    listed = {"a.run": tool.Listed("it measures", "not equal")}
    peer = made(tool, {"a.run": "passed"})
    lines, errors = tool.compare(peer, made(tool, {"a (no cases)": "lost: is not equal"}), listed)
    assert errors == 0
    assert "    it measures" in lines
    _, errors = tool.compare(peer, made(tool, {"a (no cases)": "lost: else"}), listed)
    assert errors == 1


@pytest.mark.parametrize("ours", [{"a.T.a": "passed"}, {}])
def test_stale_entry_is_an_error(tool: Any, ours: dict[str, str]) -> None:
    listed = {"a.T.a": tool.Listed("it measures", "not equal")}
    lines, errors = tool.compare(made(tool, ours), made(tool, ours), listed)
    assert errors == 1
    assert any("STALE" in line for line in lines)


def test_list_of_this_version(tool: Any, tmp_path: Path) -> None:
    path = tmp_path / "list.toml"
    path.write_text(
        dedent(
            """
            [[differs]]
            tests = ["a.T.a", "a.T.b"]
            failure = "so"
            reason = "why"
            [[differs]]
            tests = ["a.T.c"]
            failure = "so"
            reason = "why"
            pythons = ["3.11"]
            """
        )
    )
    assert list(tool.listed_cases(path, "3.11")) == ["a.T.a", "a.T.b", "a.T.c"]
    assert list(tool.listed_cases(path, "3.12")) == ["a.T.a", "a.T.b"]


@pytest.mark.parametrize(
    "entry",
    [
        'tests = ["a"]\nfailure = "so"',
        'tests = ["a"]\nreason = "why"',
        'failure = "so"\nreason = "why"',
        'tests = []\nfailure = "so"\nreason = "why"',
        'tests = ["a"]\nfailure = ""\nreason = "why"',
        'tests = ["a"]\nfailure = "so"\nreason = "why"\nversions = ["3.11"]',
        'tests = ["a", "a"]\nfailure = "so"\nreason = "why"',
    ],
)
def test_faulty_list(tool: Any, tmp_path: Path, entry: str) -> None:
    path = tmp_path / "list.toml"
    path.write_text(f"[[differs]]\n{entry}\n")
    with pytest.raises(ValueError, match=r"entry|twice"):
        tool.listed_cases(path, "3.11")


def test_cases_of_gevent(tool: Any, tmp_path: Path) -> None:
    """Modules are programs there. One that runs no cases is one itself."""
    tests = tmp_path / "gevent" / "tests"
    tests.mkdir(parents=True)
    (tests.parent / "__init__.py").touch()
    (tests / "__init__.py").touch()
    (tests / "test__cases.py").write_text(
        dedent(
            """
            import unittest
            from unittest import main
            class Test(unittest.TestCase):
                def test_a(self): pass
                def test_b(self): self.fail("so it is")
            if __name__ == "__main__":
                main()
            """
        )
    )
    (tests / "test__good.py").write_text("assert __name__ == '__main__'\n")
    (tests / "test__bad.py").write_text("raise SystemExit('no')\n")

    class Here(tool.Peer):  # type: ignore[misc]
        work = tmp_path

    runs = tool.Run("it", Here("gevent", "1.2"), {**os.environ, "PYTHONPATH": str(tmp_path)})
    for module in "test__cases", "test__good", "test__bad":
        runs.add_module(module)
    assert {test: outcome.kind for test, outcome in runs.outcomes.items()} == {
        "test__cases.Test.test_a": "passed",
        "test__cases.Test.test_b": "failed",
        "test__good.run": "passed",
        "test__bad.run": "failed",
    }


def test_run_again(tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What differs once and passes then has passed; what is listed is not run again."""
    seen: list[str] = []

    def add_module(self: Any, module: str) -> None:
        seen.append(module)
        self.outcomes[f"{module}.T.x"] = tool.Outcome("passed" if len(seen) == 2 else "failed")

    monkeypatch.setattr(tool.Run, "add_module", add_module)
    peer = made(tool, {"a.T.x": "passed", "b.T.x": "passed", "c.T.x": "passed"})
    ours = made(tool, {"a.T.x": "failed: so", "b.T.x": "failed: so", "c.T.x": "passed"})
    listed = {"b.T.x": tool.Listed("it measures", "so")}
    assert tool.run_again(peer, ours, listed, 3) == ["a.T.x"]
    assert seen == ["a", "a"]
    assert ours.passes("a.T.x")
    assert not ours.passes("b.T.x")
