"""The module's own names."""

from __future__ import annotations

import re

import greenlet
import pytest


def test_version() -> None:
    assert re.match(r"\d+\.\d+", greenlet.__version__)


@pytest.mark.parametrize("name", ["GreenletExit", "error", "getcurrent", "greenlet"])
def test_public_names(name: str) -> None:
    assert name in greenlet.__all__
    assert hasattr(greenlet, name)


def test_all_exists() -> None:
    for name in greenlet.__all__:
        assert hasattr(greenlet, name), name


@pytest.mark.parametrize("feature", ["GC", "TRACING", "CONTEXT_VARS"])
def test_feature_flags(feature: str) -> None:
    # Old programs test these before they rely on the feature; modern greenlets have them all.
    assert getattr(greenlet, f"GREENLET_USE_{feature}")


def test_type_names() -> None:
    assert greenlet.greenlet.__name__ == "greenlet"
    assert greenlet.greenlet.__module__ == "greenlet"
    assert greenlet.error.__module__ == "greenlet"
    assert greenlet.GreenletExit.__module__ == "greenlet"


def test_class_carries_the_module_functions() -> None:
    assert greenlet.greenlet.getcurrent() is greenlet.getcurrent()
    assert greenlet.greenlet.GreenletExit is greenlet.GreenletExit
    assert greenlet.greenlet.error is greenlet.error


@pytest.mark.parametrize("name", ["switch", "throw", "dead", "parent", "run", "gr_frame"])
def test_class_attributes(name: str) -> None:
    assert hasattr(greenlet.greenlet, name)


@pytest.mark.parametrize("obj", ["greenlet", "getcurrent"])
def test_docstrings(obj: str) -> None:
    assert getattr(greenlet, obj).__doc__
    assert greenlet.greenlet.switch.__doc__
    assert greenlet.greenlet.throw.__doc__
