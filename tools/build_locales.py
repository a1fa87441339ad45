"""Write locales/ and the tables in web/docs/ from the nodes' schemas, and note what is new in tests/node_ids.json.

`python -m tools.build_locales` asks the first ComfyUI that the tests can find for the schemas. English comes from the
nodes as it is; Chinese is put together from tools/chinese.json. What has no translation is listed, and nothing of the
Chinese file is written until it has. Names of nodes and inputs that are frozen stay so: only new ones are added.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
INSIDE = "--inside"
WIDER = ("optional", "options", "inside")  # of an input: what can take in more than before


def load(name: str, file: Path, package: bool = False) -> Any:
    """Import a file under a name of our choice."""
    spec = importlib.util.spec_from_file_location(
        name, file, submodule_search_locations=[str(file.parent)] if package else None
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def dump(target: Path) -> None:
    """Write the schemas as JSON; runs in a host's process."""
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    pack = load("skyreels_v2", ROOT / "__init__.py", package=True)
    schemas = load("node_schemas", ROOT / "tools" / "node_schemas.py")

    async def collect() -> list[Any]:
        return await (await pack.comfy_entrypoint()).get_node_list()

    nodes = asyncio.run(collect())
    content = {"texts": schemas.texts(nodes), "contracts": schemas.contracts(nodes)}
    target.write_text(json.dumps(content), "utf-8")


def ask_host() -> dict[str, Any]:
    """Return texts and contracts of the nodes in the first host found."""
    from tools.host import run_in_host
    from tools.hosts import find_hosts, why_no_host

    hosts = find_hosts()
    if not hosts:
        sys.exit(why_no_host())
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "schemas.json"
        run_in_host(hosts[0], Path(__file__).resolve(), INSIDE, target, timeout=3600)
        return json.loads(target.read_text("utf-8"))


def add_new(frozen: dict[str, Any], current: dict[str, Any]) -> dict[str, Any]:
    """Return what is frozen, with nodes, inputs, options and outputs that are new, and inputs that became optional."""
    result = dict(frozen)
    for node, now in current.items():
        was = frozen.get(node, {"inputs": [], "outputs": []})
        names = {entry["name"] for entry in was["inputs"]}
        widened = {entry["name"]: entry for entry in now["inputs"]}
        inputs = [
            {**entry, **{key: widened[entry["name"]][key] for key in WIDER if key in widened[entry["name"]]}}
            for entry in was["inputs"]
        ]
        new = [entry for entry in now["inputs"] if entry["name"] not in names]
        result[node] = {"inputs": inputs + new, "outputs": now["outputs"]}
    return result


def fill_pages(english: dict[str, Any], chinese: dict[str, Any]) -> None:
    """Put the tables of inputs and outputs into the help pages; a page that is not there is named."""
    from tools.node_schemas import page_file, page_with_tables

    for language, found in (("en", english), ("zh", chinese)):
        for node, entry in found.items():
            file = page_file(node, language)
            if file.exists():
                page = page_with_tables(file.read_text("utf-8"), english[node], entry, language)
                file.write_text(page, "utf-8")
            else:
                print(f"{file.relative_to(ROOT)} has to be written")


def main() -> None:
    """Write the files."""
    from tools.node_schemas import CHINESE, ENGLISH, FROZEN, MOVED, WORDS, as_json, breaks, read, translated, with_moved

    found = ask_host()
    frozen = with_moved(read(FROZEN) if FROZEN.exists() else {}, read(MOVED))
    broken = breaks(frozen, found["contracts"])
    if broken:
        sys.exit(
            "Workflows that people have saved would break:\n  "
            + "\n  ".join(broken)
            + f"\nKeep what was there. (If no version with it was released, delete {FROZEN.relative_to(ROOT)} first.)"
        )
    FROZEN.write_text(as_json(add_new(frozen, found["contracts"])), "utf-8")
    for file in (ENGLISH, CHINESE):
        file.parent.mkdir(parents=True, exist_ok=True)
    ENGLISH.write_text(as_json(found["texts"]), "utf-8")
    chinese, missing = translated(found["texts"], read(WORDS))
    if missing:
        sys.exit("tools/chinese.json lacks:\n" + as_json(sorted(missing)))
    CHINESE.write_text(as_json(chinese), "utf-8")
    fill_pages(found["texts"], chinese)


if __name__ == "__main__":
    if sys.argv[1:2] == [INSIDE]:
        dump(Path(sys.argv[2]))
    else:
        main()
