"""What all processes together have seen of a prefix, and what one more sighting makes of it. Pure: no clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from claude_force.provider.prompt_cache.outlook import LIFETIME_SECONDS, GapCounts

if TYPE_CHECKING:
    from claude_force.domain.messages import PromptCacheTtl
    from claude_force.provider.prompt_cache.prefixes import PrefixKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One prefix; the same as a `Record`, with dates in the place of monotonic seconds."""

    # Epoch seconds.
    asked_at: float
    gaps: GapCounts = field(default_factory=GapCounts)
    saved: float = 0.0
    warm_until: float = 0.0
    ttl: PromptCacheTtl = "5m"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What one process has seen: a call that begins with the prefix, or an answer to one."""

    key: PrefixKey
    # Epoch seconds.
    at: float
    # A call; otherwise an answer.
    asked: bool = False
    # The call was known of before it came: one of a map or of a workflow.
    expected: bool = False
    # What the answer has saved, as a multiple of the plain price of the prefix.
    saved: float = 0.0
    # Until when an entry can be read; 0 where there is none, None where nothing is known of it.
    warm_until: float | None = None
    ttl: PromptCacheTtl = "5m"


def with_sighting(seen: Seen | None, sighting: Sighting) -> Seen:
    """What is known of a prefix after one more sighting."""
    if seen is None:
        seen = Seen(asked_at=sighting.at)
    elif sighting.asked:
        # Of two processes the one that asked first may tell of it last.
        gap_seconds = max(sighting.at - seen.asked_at, 0.0)
        gaps = seen.gaps
        # That those of a map follow each other says nothing about the next call that nobody knows of.
        if not sighting.expected or gap_seconds >= LIFETIME_SECONDS["5m"]:
            gaps = gaps.after(gap_seconds)
        seen = replace(seen, asked_at=max(seen.asked_at, sighting.at), gaps=gaps)
    if sighting.saved:
        seen = replace(seen, saved=seen.saved + sighting.saved)
    if sighting.warm_until is None:
        return seen
    if sighting.warm_until == 0 or sighting.warm_until > seen.warm_until:
        seen = replace(seen, warm_until=sighting.warm_until, ttl=sighting.ttl)
    return seen
