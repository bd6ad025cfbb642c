"""Settings for the laws of this folder."""

from __future__ import annotations

from hypothesis import settings

# The machine may be busy; a law does not depend on how fast it is checked.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
