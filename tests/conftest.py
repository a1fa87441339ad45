"""What holds for all tests: no clock judges them, several processes can share them, and some have something to say."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest

NOTES = pytest.StashKey[list[str]]()

hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    """Make room for what the run has to say at its end, and name the mark of tests that share a process."""
    config.addinivalue_line("markers", "xdist_group(name): run by the same process, where several share the tests")
    config.stash[NOTES] = []


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file in one process, with what they share; those of the hosts, the longest, begin first."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=lambda item: "comfy" not in item.path.parent.name)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the notes to the process that prints them."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["notes"] = session.config.stash[NOTES]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the notes of a process that has ended."""
    node.config.stash[NOTES] += getattr(node, "workeroutput", {}).get("notes", [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the notes, each once."""
    for note in sorted(set(config.stash[NOTES])):
        terminalreporter.write_line(note)


@pytest.fixture(scope="session")
def notes(pytestconfig: pytest.Config) -> list[str]:
    """Lines to be shown at the end of the run."""
    return pytestconfig.stash[NOTES]
