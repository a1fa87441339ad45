"""Every input of every node with right and wrong values: it works, or one of our sentences says why not.

What became of each is kept in tests/contracts.json, from which tools/contract_table.py makes docs/inputs.md. With
SKYREELS_CONTRACTS set to a file, what was seen is written there.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import contract_scene
import folder_paths
import pytest
import torch
from conftest import REPO, load_module

pytestmark = pytest.mark.timeout(1200)  # the first one makes over a thousand calls: 30 s of processor time
KEPT = REPO / "tests" / "contracts.json"
RIGHT, RAW = "right", "RAW "
Outcomes = dict[str, dict[str, dict[str, list[str]]]]  # node -> input -> column -> what became of each value


def outcome(node: Any, given: dict[str, Any]) -> str:
    """RIGHT, our sentence with places for its values, or RAW and what it was."""
    from skyreels_v2.wan_core.errors import SkyReelsError

    try:
        with torch.inference_mode():
            if "samples" in given:
                node.check_lazy_status(**{"samples": None, **given})
            made = node.PREPARE_CLASS_CLONE(None).EXECUTE_NORMALIZED(**given)
    except SkyReelsError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000, str(error)
        return error.words.template
    except Exception as error:
        where = [line.strip() for line in traceback.format_exc().splitlines() if line.startswith("  File")]
        return f"{RAW}{type(error).__name__}: {str(error)[:200]} " + "; ".join(where[-6:])
    finite = all(bool(torch.isfinite(tensor.float()).all()) for tensor in tensors_of(made.args))
    return RIGHT if finite else RAW + "NaN in the output"


def tensors_of(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from tensors_of(each)


@pytest.fixture(scope="module")
def outcomes(
    pack: ModuleType, pack_nodes: dict[str, Any], models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outcomes]:
    """What became of every value; each has an output folder of its own."""
    scene, found, before = contract_scene.Scene(pack_nodes, models), Outcomes(), folder_paths.get_output_directory()
    known: dict[str, str] = {}
    sys.modules.setdefault("ray", ModuleType("ray"))  # with or without it: nothing is computed here
    for name, node, entry, base in scene.rows():
        values = scene.cases(name, entry) if entry is not None else {RIGHT: [None]}
        for column, tried in values.items():
            said = []
            for value in tried:
                folder_paths.set_output_directory(str(tmp_path_factory.mktemp("output")))
                if column == RIGHT and (entry is None or entry.id in base):  # the same call for all of a node's inputs
                    known[name] = known.get(name) or outcome(node, base)
                    said.append(known[name])
                else:
                    said.append(outcome(node, base | {entry.id: value}))
            row = found.setdefault(name, {}).setdefault("" if entry is None else entry.id, {})
            row[column] = list(dict.fromkeys(said))
    folder_paths.set_output_directory(before)
    if not hasattr(sys.modules["ray"], "init"):
        del sys.modules["ray"]
    if os.environ.get("SKYREELS_CONTRACTS"):
        Path(os.environ["SKYREELS_CONTRACTS"]).write_text(json.dumps(found), "utf-8")
    yield found


def test_no_raw_error_reaches_a_person(outcomes: Outcomes) -> None:
    raw = [(node, name, column, each) for node, rows in outcomes.items() for name, row in rows.items()
           for column, said in row.items() for each in said if each.startswith(RAW)]  # fmt: skip
    assert raw == [], "\n".join(map(str, raw))


def test_what_is_right_works(outcomes: Outcomes) -> None:
    seen = {(node, name): row[RIGHT] for node, rows in outcomes.items() for name, row in rows.items()}
    assert {key: said for key, said in seen.items() if said != [RIGHT]} == {}


def test_every_input_has_its_row_in_the_table(outcomes: Outcomes) -> None:
    table = load_module("contract_table", REPO / "tools" / "contract_table.py")
    kept = table.unpacked(json.loads(KEPT.read_text("utf-8")))
    again = "look at what changed, then: python -m tools.contract_table FILE, with the FILE of SKYREELS_CONTRACTS"
    for node, rows in outcomes.items():
        for name, row in rows.items():
            assert kept.get(node, {}).get(name) == row, (node, name, again)
    assert kept.keys() == outcomes.keys(), again
    assert {node: list(rows) for node, rows in kept.items()} == {node: list(rows) for node, rows in outcomes.items()}
