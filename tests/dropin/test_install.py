"""install_as_gevent(): which module every name means, and when it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from dropin_support import Python, Write

INSTALL = "import greenloop; greenloop.install_as_gevent()\n"


def check(python: Python, source: str, **env: str) -> None:
    """Run `source` after the drop-in is installed; its asserts are the test."""
    python("-c", INSTALL + source, env=env).out()


def test_gevent_is_greenloop_itself(python: Python) -> None:
    check(
        python,
        """
import sys, gevent, gevent.socket, gevent.hub, gevent.event, gevent.monkey
assert gevent is greenloop
assert sys.modules["gevent"] is sys.modules["greenloop"]
for name in ("socket", "hub", "event", "monkey"):
    module = sys.modules["gevent." + name]
    assert module is sys.modules["greenloop." + name] is getattr(gevent, name)
    assert module.__name__ == module.__spec__.name == "greenloop." + name
""",
    )


def test_from_import_and_attribute_agree(python: Python) -> None:
    check(
        python,
        """
from gevent import socket, event
from gevent.event import Event
import greenloop.event, gevent.event
assert event is greenloop.event is gevent.event
assert Event is greenloop.event.Event
""",
    )


def test_greenlet_is_the_raw_greenlet_module(python: Python) -> None:
    check(
        python,
        """
import sys, greenlet, greenloop.rawgreenlet
from greenlet import getcurrent
import greenlet._greenlet
from greenlet._greenlet import greenlet as extension_type
assert greenlet is greenloop.rawgreenlet
assert sys.modules["greenlet"] is sys.modules["greenlet._greenlet"]
assert extension_type is greenlet.greenlet
assert greenlet._greenlet.getcurrent is getcurrent
""",
    )


def test_monkey_is_visible_to_libraries_that_only_look(python: Python) -> None:
    # psycopg asks sys.modules, without importing, whether the program is patched.
    check(
        python,
        """
import sys
assert sys.modules["gevent.monkey"].is_module_patched("socket") is False
import greenloop.monkey
greenloop.monkey.patch_all()
assert sys.modules["gevent.monkey"].is_module_patched("socket") is True
""",
    )


def test_unknown_submodule(python: Python) -> None:
    check(
        python,
        """
import importlib.util
assert importlib.util.find_spec("gevent.no_such_module") is None
try:
    import gevent.no_such_module
except ModuleNotFoundError as error:
    assert error.name == "gevent.no_such_module"
else:
    raise AssertionError("imported")
try:
    import greenlet.no_such_module
except ModuleNotFoundError as error:
    assert error.name == "greenlet.no_such_module"
else:
    raise AssertionError("imported")
""",
    )


def test_installed_real_packages_are_never_found(python: Python, real_packages: str) -> None:
    check(
        python,
        """
import importlib.util, sys, gevent, gevent.hub, greenlet, greenlet._greenlet
for module in (gevent, gevent.hub, greenlet, greenlet._greenlet):
    assert "real" not in (module.__file__ or "").split("/"), module
assert importlib.util.find_spec("gevent.only_in_real") is None
# Also when a tool empties sys.modules.
for name in [n for n in sys.modules if n.split(".")[0] in ("gevent", "greenlet")]:
    del sys.modules[name]
import gevent, gevent.hub, greenlet
assert gevent is greenloop and gevent.hub is greenloop.hub
assert greenlet is greenloop.rawgreenlet
""",
        PYTHONPATH=real_packages,
    )


def test_installing_again_changes_nothing(python: Python) -> None:
    check(
        python,
        """
import sys
before = list(sys.meta_path), dict(sys.modules)
greenloop.install_as_gevent()
import gevent
gevent.install_as_gevent()
assert (sys.meta_path, sys.modules) == before
""",
    )


@pytest.mark.parametrize(
    ("first", "named"),
    [
        ("gevent", "gevent/__init__.py"),
        ("gevent.hub", "gevent/__init__.py"),
        ("greenlet", "greenlet/__init__.py"),
    ],
)
def test_refuses_after_the_real_one(
    python: Python, real_packages: str, first: str, named: str
) -> None:
    source = f"""
import os, sys
import {first}
import greenloop
before = list(sys.meta_path), {{n: m for n, m in sys.modules.items()
                               if n.split(".")[0] != "greenloop"}}, dict(os.environ)
try:
    greenloop.install_as_gevent(children=True)
except greenloop.exceptions.DropInError as error:
    assert isinstance(error, RuntimeError)
    print(error)
after = list(sys.meta_path), {{n: m for n, m in sys.modules.items()
                              if n.split(".")[0] != "greenloop"}}, dict(os.environ)
assert before == after
"""
    message = python("-c", source, env={"PYTHONPATH": real_packages}).out()
    assert f"{first.partition('.')[0]} (from {real_packages}/{named})" in message
    assert "greenloop.install_as_gevent() before the first import" in message
    assert "python -m greenloop" in message


def test_refusal_names_both_packages(python: Python, real_packages: str) -> None:
    source = "import greenlet, gevent\n" + INSTALL
    run = python("-c", source, env={"PYTHONPATH": real_packages})
    assert run.returncode == 1
    last = run.stderr.splitlines()[-1]
    assert "gevent (from " in last
    assert "greenlet (from " in last
    assert "were already imported" in last


def test_refuses_a_submodule_whose_package_was_removed(python: Python, real_packages: str) -> None:
    source = "import sys, gevent.hub\ndel sys.modules['gevent']\n" + INSTALL
    run = python("-c", source, env={"PYTHONPATH": real_packages})
    assert run.returncode == 1
    assert f"gevent.hub (from {real_packages}/gevent/hub.py)" in run.stderr


def test_refuses_a_stand_in_of_no_file(python: Python) -> None:
    source = "import sys, types\nsys.modules['gevent'] = types.ModuleType('gevent')\n" + INSTALL
    run = python("-c", source)
    assert run.returncode == 1
    assert "gevent (of no known file) was already imported" in run.stderr


def test_a_blocked_import_is_not_an_import(python: Python) -> None:
    # sys.modules[name] = None is how tests make an import fail.
    python(
        "-c",
        "import sys\nsys.modules['gevent'] = None\n"
        + INSTALL
        + "import gevent\nassert gevent is greenloop\n",
    ).out()


def test_path_is_an_appendable_list(python: Python, write: Write, tmp_path: Path) -> None:
    write("extra/addition.py", "from gevent.hub import get_hub\n")
    write("extra/hub.py", "raise AssertionError('greenloop has a hub of its own')\n")
    check(
        python,
        f"""
import sys, gevent
assert type(gevent.__path__) is list
gevent.__path__.append({str(tmp_path / "extra")!r})
import gevent.addition
assert gevent.addition.__name__ == gevent.addition.__spec__.name == "gevent.addition"
assert gevent.addition.__file__ == {str(tmp_path / "extra/addition.py")!r}
import gevent.hub
assert gevent.hub is greenloop.hub
""",
    )


@pytest.mark.parametrize(
    "first",
    ["import gevent.addition", "from gevent import addition", "import greenloop.addition"],
)
def test_one_copy_of_an_appended_module(
    python: Python, write: Write, tmp_path: Path, first: str
) -> None:
    # `from gevent import x` asks the import system for greenloop.x.
    write("extra/addition/__init__.py", "from . import part\n")
    write("extra/addition/part.py", "")
    check(
        python,
        f"""
import sys, gevent
gevent.__path__.append({str(tmp_path / "extra")!r})
{first}
import gevent.addition.part, greenloop.addition.part
from gevent import addition
assert addition is sys.modules["gevent.addition"] is sys.modules["greenloop.addition"]
assert addition.part is sys.modules["gevent.addition.part"]
assert addition.part is sys.modules["greenloop.addition.part"]
assert addition.__name__ == "gevent.addition"
""",
    )


def test_find_spec(python: Python) -> None:
    check(
        python,
        """
import importlib.util, sys
assert importlib.util.find_spec("gevent") is greenloop.__spec__
spec = importlib.util.find_spec("gevent.pool")
assert spec.origin.endswith("greenloop/pool.py"), spec
assert "gevent.pool" in (spec.name, "gevent." + spec.name.removeprefix("greenloop."))
""",
    )


def test_pkgutil_lists_greenloops_modules(python: Python) -> None:
    check(
        python,
        """
import gevent, pkgutil
names = {module.name for module in pkgutil.iter_modules(gevent.__path__)}
assert {"socket", "hub", "monkey"} <= names
assert {"gevent.socket", "gevent.hub"} <= {
    module.name for module in pkgutil.iter_modules(gevent.__path__, "gevent.")
}
""",
    )


def test_reload_keeps_one_module(python: Python) -> None:
    check(
        python,
        """
import importlib, sys, gevent.event
event = gevent.event
assert importlib.reload(gevent.event) is event
assert event is sys.modules["gevent.event"] is sys.modules["greenloop.event"]
assert event.__spec__.name == "greenloop.event"
""",
    )


def test_pickles_made_with_gevents_names(python: Python) -> None:
    check(
        python,
        """
import pickle
from gevent.event import Event
from gevent.monkey import patch_all
assert pickle.loads(pickle.dumps(patch_all)) is patch_all
assert pickle.loads(b"cgevent.event\\nEvent\\n.") is Event
assert pickle.loads(b"cgevent.monkey\\npatch_all\\n.") is patch_all
""",
    )


def test_inspect_finds_the_source(python: Python) -> None:
    check(
        python,
        """
import inspect, gevent.monkey
assert inspect.getmodule(gevent.monkey.patch_all).__name__.startswith("greenloop.monkey")
assert "def patch_all" in inspect.getsource(gevent.monkey.patch_all)
""",
    )


def test_loader_reads_the_module_without_importing_it(python: Python, write: Write) -> None:
    write(
        "probe.py",
        """
        import sys, greenloop
        from greenloop.dropin._finder import AliasLoader

        loader = AliasLoader("greenloop.cli")
        assert "greenloop.cli" not in sys.modules
        assert loader.get_filename("gevent.cli").endswith("greenloop/cli.py")
        assert "def main" in loader.get_source("gevent.cli")
        assert loader.get_code("gevent.cli").co_filename.endswith("greenloop/cli.py")
        assert loader.is_package("gevent.cli") is False
        assert AliasLoader("greenloop.dropin").is_package("gevent.dropin") is True
        assert "greenloop.cli" not in sys.modules
        try:
            AliasLoader("greenloop.nothing").get_code("gevent.nothing")
        except ImportError as error:
            assert error.name == "greenloop.nothing"
        else:
            raise AssertionError("found code")
        """,
    )
    python("probe.py").out()


def test_stand_in_seen_by_another_thread_answers_for_the_module(python: Python) -> None:
    # A thread that imports in the moment between create_module and exec_module keeps it.
    check(
        python,
        """
from importlib.machinery import ModuleSpec
from greenloop.dropin._finder import AliasLoader
import gevent.event
loader = AliasLoader("greenloop.event")
stand_in = loader.create_module(ModuleSpec("gevent.event", loader))
assert stand_in is not gevent.event
assert stand_in.Event is gevent.event.Event
""",
    )


def test_metadata_agrees_with_the_modules(python: Python) -> None:
    check(
        python,
        """
import gevent, greenlet
from importlib import metadata
assert metadata.version("gevent") == gevent.__version__
assert metadata.version("greenlet") == metadata.version("Greenlet") == greenlet.__version__
assert metadata.metadata("gevent")["Name"] == "gevent"
assert metadata.distribution("gevent").files is None
try:
    metadata.version("gevent-websocket-of-nobody")
except metadata.PackageNotFoundError:
    pass
else:
    raise AssertionError("found")
""",
    )


def test_metadata_answers_before_what_is_installed(
    python: Python, write: Write, tmp_path: Path
) -> None:
    write("real/gevent-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: gevent\nVersion: 1.0")
    check(
        python,
        """
import gevent
from importlib import metadata
assert metadata.version("gevent") == gevent.__version__ != "1.0"
# A listing of what is on disk stays that.
listed = [dist.version for dist in metadata.distributions() if dist.metadata["Name"] == "gevent"]
assert "1.0" in listed and gevent.__version__ not in listed
""",
        PYTHONPATH=str(tmp_path / "real"),
    )


def test_children_needs_the_start_up_hook(python: Python) -> None:
    source = """
import os, sys
import greenloop
from greenloop import dropin
sys.path[:] = [entry for entry in sys.path if "site-packages" not in entry]
assert not dropin.hook_is_installed()
try:
    greenloop.install_as_gevent(children=True)
except dropin.DropInError as error:
    assert "greenloop_dropin.pth" in str(error)
else:
    raise AssertionError("installed")
assert "GREENLOOP_DROPIN" not in os.environ
assert "gevent" not in sys.modules
"""
    python("-c", source).out()
