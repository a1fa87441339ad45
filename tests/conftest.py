"""What holds for all tests: what a test costs is no matter of the clock, on whatever machine it runs."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")
