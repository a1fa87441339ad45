"""The nodes in the host against the files that speak of them: locales/en and tests/node_ids.json."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def schemas() -> ModuleType:
    """tools/node_schemas.py, without making the repository importable."""
    spec = importlib.util.spec_from_file_location("node_schemas", REPO / "tools" / "node_schemas.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_that_saved_workflows_rely_on_has_gone(schemas: ModuleType, pack_nodes: dict[str, Any]) -> None:
    assert schemas.breaks(schemas.read(schemas.FROZEN), schemas.contracts(pack_nodes.values())) == []


def test_everything_new_is_frozen(schemas: ModuleType, pack_nodes: dict[str, Any]) -> None:
    current = schemas.contracts(pack_nodes.values())
    assert schemas.breaks(current, schemas.read(schemas.FROZEN)) == [], "run python -m tools.build_locales"


def test_the_english_texts_are_those_of_the_nodes(schemas: ModuleType, pack_nodes: dict[str, Any]) -> None:
    assert schemas.read(schemas.ENGLISH) == schemas.texts(pack_nodes.values()), "run python -m tools.build_locales"
