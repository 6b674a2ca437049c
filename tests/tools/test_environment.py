"""Setting up environments: every step is done once, and again only after what it depends on."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent

FILES = {
    "Cargo.lock": "",
    "Cargo.toml": "",
    "LICENSE": "",
    "README.md": "",
    "benches/requirements.txt": "peer==1\n",
    "crates/stack/src/lib.rs": "",
    "demo/requirements.txt": "requests\n",
    "pyproject.toml": "",
    "python/greenloop/__init__.py": "",
    "tests/requirements-no-deps.txt": "plugin\n",
    "tests/requirements.txt": "pytest\n",
    "tools/requirements.txt": "maturin\n",
    "wheel-data/purelib/hook.pth": "",
}


class Setup:
    """The script, working in a directory of its own, with its commands noted and not run."""

    def __init__(self, script: Any, root: Path) -> None:
        self.script = script
        self.root = root
        self.commands: list[list[str]] = []

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run(self, *command: str | Path) -> None:
        words = [str(word) for word in command]
        self.commands.append(words)
        if "venv" in words:
            Path(words[-1]).mkdir(parents=True, exist_ok=True)
        if "build" in words:
            wheels = Path(words[words.index("--out") + 1])
            wheels.mkdir(parents=True)
            (wheels / "greenloop-1.0.whl").touch()

    def steps(self, *arguments: str) -> list[str]:
        """What a call with these arguments did, in short."""
        self.commands.clear()
        sys.argv[1:] = arguments
        self.script.main()
        return [self.short(command) for command in self.commands]

    def short(self, command: list[str]) -> str:
        if "venv" in command:
            return f"create {Path(command[-1]).name}"
        if "build" in command:
            return "build"
        environment = Path(command[0]).parent.parent.name
        what = [word for word in command if word.endswith((".txt", ".whl"))]
        alone = "alone " if "--no-deps" in command else ""
        return f"{environment}: {alone}{' '.join(Path(word).as_posix() for word in what)}"


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    spec = importlib.util.spec_from_file_location("environment", PROJECT / "tools/environment.py")
    assert spec is not None
    assert spec.loader is not None
    script: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    setup = Setup(script, tmp_path)
    for name, text in FILES.items():
        setup.write(name, text)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "run", setup.run)
    monkeypatch.setattr(script, "check_interpreter", lambda: None)
    monkeypatch.setattr(script, "tag", lambda: "3.0")
    monkeypatch.setattr(sys, "argv", ["environment.py"])
    return setup


MAIN = (
    "3.0: tools/requirements.txt tests/requirements.txt demo/requirements.txt",
    "3.0: alone tests/requirements-no-deps.txt",
)
PEERS = "3.0-peers: tests/requirements.txt benches/requirements.txt"


def wheel(setup: Setup) -> str:
    return (setup.root / "target/3.0/wheels/greenloop-1.0.whl").as_posix()


def test_second_run_does_nothing(setup: Setup) -> None:
    assert setup.steps("--greenloop", "main") == [
        "create 3.0",
        *MAIN,
        "build",
        f"3.0: alone {wheel(setup)}",
    ]
    assert setup.steps("--greenloop", "main") == []
    assert setup.steps("main") == []


def test_without_greenloop_nothing_is_built(setup: Setup) -> None:
    assert setup.steps("peers") == ["create 3.0-peers", PEERS]


def test_both_environments_share_one_build(setup: Setup) -> None:
    setup.steps("--greenloop", "main")
    assert setup.steps("--greenloop", "peers") == [
        "create 3.0-peers",
        PEERS,
        f"3.0-peers: alone {wheel(setup)}",
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda setup: setup.write("crates/stack/src/lib.rs", "// changed"),
        lambda setup: setup.write("crates/stack/src/new.rs", ""),
        lambda setup: setup.write("python/greenloop/_core.pyi", ""),
        lambda setup: setup.write("wheel-data/purelib/hook.pth", "import os"),
        lambda setup: (setup.root / "python/greenloop/__init__.py").unlink(),
    ],
    ids=["changed", "new", "stub", "hook", "removed"],
)
def test_change_of_sources_builds_again(setup: Setup, change: Callable[[Setup], object]) -> None:
    setup.steps("--greenloop", "main")
    change(setup)
    assert setup.steps("--greenloop", "main") == ["build", f"3.0: alone {wheel(setup)}"]


@pytest.mark.parametrize(
    "name",
    [
        "python/greenloop/_core.cpython-30.so",
        "python/greenloop/__pycache__/x.py",
        "crates/stack/tests/x.rs",
        "docs/README.md",
    ],
)
def test_what_is_not_in_the_wheel_does_not_count(setup: Setup, name: str) -> None:
    setup.steps("--greenloop", "main")
    setup.write(name, "")
    assert setup.steps("--greenloop", "main") == []


def test_change_of_requirements_installs_them_again(setup: Setup) -> None:
    setup.steps("main")
    setup.steps("peers")
    setup.write("demo/requirements.txt", "requests>=2\n")
    assert setup.steps("peers") == []
    assert setup.steps("main") == [*MAIN]


def test_other_interpreter_of_the_same_version_starts_anew(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.steps("main")
    monkeypatch.setattr(sys, "base_prefix", "/elsewhere")
    assert setup.steps("main") == ["create 3.0", *MAIN]


def test_failed_step_is_repeated(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*command: str | Path) -> None:
        if "pip" in map(str, command):
            raise SystemExit("no network")
        setup.run(*command)

    with monkeypatch.context() as broken:
        broken.setattr(setup.script, "run", fails)
        with pytest.raises(SystemExit, match="no network"):
            setup.steps("main")
    assert setup.steps("main") == [*MAIN]
