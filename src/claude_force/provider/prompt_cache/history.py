"""What this process has seen of each prefix: when it was asked, at which gaps, and until when it can be read."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from claude_force.provider.prompt_cache.outlook import LIFETIME_SECONDS, GapCounts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from claude_force.domain.messages import PromptCacheTtl
    from claude_force.provider.prompt_cache.prefixes import Prefix, PrefixKey

# About 3 MB. Beyond it the prefix that was asked longest ago is forgotten.
_KEPT: Final = 10_000


@dataclass(slots=True)
class Record:
    """One prefix."""

    # Seconds of a monotonic clock.
    asked_at: float
    gaps: GapCounts = field(default_factory=GapCounts)
    # Until when an entry can be read, and its lifetime.
    warm_until: float = 0.0
    ttl: PromptCacheTtl = "5m"
    # The provider was asked to keep it and did not: it is shorter than it looks, or nothing is kept there.
    refused: bool = False

    def warm(self, now: float) -> PromptCacheTtl | None:
        """The lifetime of the entry that can be read; None where there is none."""
        return self.ttl if now < self.warm_until else None


class PrefixHistory:
    """Records by prefix, the most recently asked ones. Whoever uses it in several threads guards it."""

    def __init__(self) -> None:
        self._records: OrderedDict[PrefixKey, Record] = OrderedDict()

    def asked(self, prefixes: Iterable[Prefix], now: float) -> list[Record]:
        """Note that a call begins with all of these; their records, in the same order."""
        return [self._asked(prefix.key, now) for prefix in prefixes]

    def kept(self, key: PrefixKey, ttl: PromptCacheTtl, *, since: float) -> None:
        """An answer has begun to a request, sent at ``since``, that wrote or read the prefix."""
        record = self._records.get(key)
        if record is not None:
            record.refused = False
            if record.warm(since) is None:
                record.ttl = ttl
            record.warm_until = max(record.warm_until, since + LIFETIME_SECONDS[record.ttl])

    def refused(self, key: PrefixKey) -> None:
        """The prefix was marked, and neither written nor read."""
        record = self._records.get(key)
        if record is not None:
            record.refused = True
            record.warm_until = 0.0

    def _asked(self, key: PrefixKey, now: float) -> Record:
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = Record(now)
            if len(self._records) > _KEPT:
                self._records.popitem(last=False)
            return record
        self._records.move_to_end(key)
        record.gaps = record.gaps.after(max(now - record.asked_at, 0.0))
        record.asked_at = now
        return record
