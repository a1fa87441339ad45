"""What the nodes look like from outside: their texts for the locales, and what saved workflows rely on.

Standard library only, so that it can be loaded inside a host's process, where the nodes are, and outside, where the
files are. It reads schemas and compares them; tools/build_locales.py writes the files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ENGLISH = ROOT / "locales" / "en" / "nodeDefs.json"
CHINESE = ROOT / "locales" / "zh" / "nodeDefs.json"
WORDS = ROOT / "tools" / "chinese.json"
FROZEN = ROOT / "tests" / "node_ids.json"
PAGES = ROOT / "web" / "docs"
TABLES = re.compile(r"(<!-- inputs and outputs: [^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)
HEADS = {
    "en": ("| input | what it is |", "| output | what it is |"),
    "zh": ("| 输入 | 说明 |", "| 输出 | 说明 |"),
}
DYNAMIC = "COMFY_DYNAMICCOMBO_V3"  # an input whose options bring inputs of their own
MOVED = ROOT / "web" / "js" / "moved_inputs.json"
LISTINGS = ("model_name", "lora_name", "codec")  # their options are what is found on a machine

LAST_NUMBER = re.compile(r"\d+$")

Texts = dict[str, Any]


def read(file: Path) -> Any:
    """Return the content of a JSON file."""
    return json.loads(file.read_text("utf-8"))


def as_json(content: Any) -> str:
    """Return a JSON file's text, the same on every machine."""
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def texts(nodes: Iterable[Any]) -> Texts:
    """Return names and tooltips of node classes in the form of ComfyUI's nodeDefs.json.

    Args:
        nodes: V3 node classes, in a host's process.
    """
    found: Texts = {}
    for node in nodes:
        schema = node.GET_SCHEMA()
        found[schema.node_id] = {
            "display_name": schema.display_name,
            "description": schema.description,
            "inputs": {
                key: {"name": entry.display_name or entry.id, "tooltip": entry.tooltip}
                for key, entry in with_grown(schema.inputs)
            },
            "outputs": {
                str(index): {"name": entry.display_name or entry.id, "tooltip": entry.tooltip}
                for index, entry in enumerate(schema.outputs)
            },
        }
    return found


def with_grown(inputs: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield inputs, and behind each the ones that grow from it or are inside it, with their keys in the texts.

    The front end calls them `prompts.prompt_1` or `size.width`, and puts `_` in the place of a dot in a key.
    """
    for entry in inputs:
        yield entry.id, entry
        template = getattr(entry, "template", None)
        grown = template.get_all() if template is not None else [*inside(entry).values()]
        for each in grown:
            yield f"{entry.id}_{each.id}", each


def inside(entry: Any) -> dict[str, Any]:
    """Return the inputs that options of an input (a DynamicCombo) bring with them, by name."""
    options = [option for option in getattr(entry, "options", None) or () if hasattr(option, "inputs")]
    return {each.id: each for option in options for each in option.inputs}


def is_grown(key: str, entry: Texts) -> bool:
    """Return whether an entry of the English texts is that of an input which grows from another or is inside it."""
    return key.endswith(f"_{entry['name']}")


def contracts(nodes: Iterable[Any]) -> Texts:
    """Return what saved workflows rely on: ids, inputs in order with their types and options, types of outputs."""
    found: Texts = {}
    for node in nodes:
        schema = node.GET_SCHEMA()
        inputs = [contract(entry) for entry in schema.inputs]
        found[schema.node_id] = {"inputs": inputs, "outputs": [entry.get_io_type() for entry in schema.outputs]}
    return found


def contract(entry: Any) -> Texts:
    """Return what saved workflows rely on in one input; `inside`: the inputs that come with an option, by option."""
    options = getattr(entry, "options", None)
    nested = {option.key: option.inputs for option in options or () if hasattr(option, "inputs")}
    found = {
        "name": entry.id,
        "type": entry.get_io_type(),
        "widget": hasattr(entry, "socketless") or bool(nested),
    }
    if entry.optional:
        found["optional"] = True
    if nested:
        found["options"] = list(nested)
        found["inside"] = {option: [contract(each) for each in inputs] for option, inputs in nested.items() if inputs}
    elif options is not None and entry.id not in LISTINGS:
        found["options"] = list(options)
    return found


def with_moved(frozen: Texts, moved: Texts) -> Texts:
    """Return frozen contracts as the migration of inputs that moved leaves them.

    Args:
        frozen: as `contracts` gave them once.
        moved: the table of the migration, web/js/moved_inputs.json; it is about nodes that have the inputs which
            moved on their own level still.
    """
    return {
        node: {**entry, "inputs": moved_inside(entry["inputs"], moved.get(node, {}))} for node, entry in frozen.items()
    }


def moved_inside(inputs: list[Texts], moved: Texts) -> list[Texts]:
    """Return a node's inputs with those that moved inside of others."""
    by_name = {entry["name"]: entry for entry in inputs}
    homes = {
        parent: {option: [by_name[name] for name in names if name in by_name] for option, names in options.items()}
        for parent, options in moved.get("inside", {}).items()
    }
    homes = {parent: options for parent, options in homes.items() if any(options.values())}
    gone = {each["name"] for options in homes.values() for inner in options.values() for each in inner}
    return [
        {**entry, **({"type": DYNAMIC, "inside": homes[entry["name"]]} if entry["name"] in homes else {})}
        for entry in inputs
        if entry["name"] not in gone
    ]


def breaks(frozen: Texts, current: Texts, moved: Texts | None = None) -> list[str]:
    """Return what would break a workflow saved with the frozen nodes, a sentence each.

    A workflow file keeps the values of widgets as a list, so a new widget may only come behind the frozen ones. A new
    input that has no widget has to be optional. What the migration (`moved`, see `with_moved`) puts right is no break.
    """
    found = []
    frozen = with_moved(frozen, moved or {})
    for node, was in frozen.items():
        if node not in current:
            found.append(f"{node} is gone")
            continue
        now = current[node]
        if now["outputs"][: len(was["outputs"])] != was["outputs"]:
            found.append(f"{node}: outputs were {was['outputs']} and are {now['outputs']}")
        names = [entry["name"] for entry in was["inputs"]]
        inputs = {entry["name"]: entry for entry in now["inputs"]}
        for entry in was["inputs"]:
            last = entry == was["inputs"][-1] and entry["name"] == now["inputs"][-1]["name"]
            found += input_breaks(node, entry, inputs.get(entry["name"]), last)
        widgets = [entry["name"] for entry in was["inputs"] if entry["widget"]]
        widgets_now = [entry["name"] for entry in now["inputs"] if entry["widget"]]
        if widgets_now[: len(widgets)] != widgets:
            found.append(f"{node}: the widgets were {widgets} and begin with {widgets_now[: len(widgets)]}")
        found += [
            f"{node}: the new input {name} is required, so old workflows lack it"
            for name, entry in inputs.items()
            if name not in names and not entry["widget"] and not entry.get("optional")
        ]
    return found


def input_breaks(node: str, was: Texts, now: Texts | None, last: bool = False) -> list[str]:
    """Return what is worse about one input than it was; `last`: no other comes behind it."""
    name = f"{node}.{was['name']}"
    if now is None:
        return [f"{name} is gone"]
    found = []
    if (now["type"], now["widget"]) != (was["type"], was["widget"]):
        found.append(f"{name} was {was['type']} and is {now['type']}")
    if was.get("optional") and not now.get("optional"):
        found.append(f"{name} was optional and is required")
    kept = (was | now).get("options", ())
    lost = [option for option in was.get("options", ()) if option not in kept]
    if lost:
        found.append(f"{name} has lost the options {lost}")
    for option in was.get("options", ()) if now["type"] == DYNAMIC else ():
        inner, inner_now = (entry.get("inside", {}).get(option, []) for entry in (was, now))
        names, names_now = ([each["name"] for each in entries] for entries in (inner, inner_now))
        new = inner_now[len(names) :]
        # a value that is new here would move all that come after it
        grown = last and names and all(each.get("optional") for each in new)
        if names_now[: len(names)] != names or (new and not grown):
            found.append(f"{name}: inside {option} were {names} and are {names_now}")
        else:
            for each, each_now in zip(inner, inner_now, strict=False):
                found += input_breaks(name, each, each_now)
    return found


def translated(english: Texts, words: Texts) -> tuple[Texts, set[str]]:
    """Put texts into another language.

    Args:
        english: as `texts` gives them.
        words: {"names": {name: translation}, "sentences": {English: translation}}: keyed by the English, so that a
            sentence that changes loses its translation and is missed. A # is for the number that a name ends with.

    Returns:
        The texts, and what has no translation.
    """
    missing: set[str] = set()

    def say(kind: str, text: str) -> str:
        known = words[kind]
        if text in known:
            return known[text]
        number, pattern = LAST_NUMBER.search(text), LAST_NUMBER.sub("#", text)
        if number and pattern in known:
            return known[pattern].replace("#", number[0])
        missing.add(text)
        return text

    def entries(found: Texts) -> Texts:
        return {
            key: {"name": say("names", entry["name"]), "tooltip": say("sentences", entry["tooltip"])}
            for key, entry in found.items()
        }

    result = {
        node: {
            "display_name": say("names", entry["display_name"]),
            "description": say("sentences", entry["description"]),
            "inputs": entries(entry["inputs"]),
            "outputs": entries(entry["outputs"]),
        }
        for node, entry in english.items()
    }
    return result, missing


def page_file(node: str, language: str) -> Path:
    """Return where the host looks for a node's help."""
    return PAGES / f"{node}.md" if language == "en" else PAGES / node / f"{language}.md"


def page_with_tables(page: str, english: Texts, translation: Texts, language: str) -> str:
    """Return a help page with the tables of inputs and outputs between its two marks.

    Args:
        page: the page as it is.
        english: the node's entry of `texts`; its names are the ones that the pages of this pack speak of.
        translation: the same in the page's language.
        language: "en" or "zh".

    Raises:
        ValueError: the page has no marks.
    """
    parts = []
    for head, kind in zip(HEADS[language], ("inputs", "outputs"), strict=True):
        rows = [head, "|---|---|"]
        for key, entry in translation[kind].items():
            name = english[kind][key]["name"]
            if is_grown(key, english[kind][key]) and LAST_NUMBER.search(name):
                continue  # one of many alike
            label = f"`{name}`" if entry["name"] == name else f"{entry['name']} `{name}`"
            rows.append(f"| {label} | {entry['tooltip']} |")
        if len(rows) > 2:
            parts.append("\n".join(rows))
    tables = "\n" + "\n\n".join(parts) + "\n\n"
    filled, count = TABLES.subn(lambda match: match[1] + tables + match[2], page)
    if count != 1:
        raise ValueError(f"The page {page[:40]!r} has {count} pairs of marks for its tables: give it one.")
    return filled
