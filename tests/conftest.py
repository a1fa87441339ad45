"""What holds for all tests: no clock judges them, and some have something to say."""

from __future__ import annotations

import hypothesis
import pytest

NOTES = pytest.StashKey[list[str]]()

hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    """Make room for what the run has to say at its end."""
    config.stash.setdefault(NOTES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the notes, each once."""
    for note in sorted(set(config.stash[NOTES])):
        terminalreporter.write_line(note)


@pytest.fixture(scope="session")
def notes(pytestconfig: pytest.Config) -> list[str]:
    """Lines to be shown at the end of the run."""
    return pytestconfig.stash[NOTES]
