"""What is known of each prefix: when it was asked, at which gaps, and until when it can be read."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from claude_force.provider.prompt_cache.outlook import LIFETIME_SECONDS, GapCounts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from claude_force.domain.messages import PromptCacheTtl
    from claude_force.provider.prompt_cache.outlook import CacheRates
    from claude_force.provider.prompt_cache.prefixes import Prefix, PrefixKey

# How many times its plain price a prefix may have lost by guesses before nothing but known readers counts for it.
# One guess costs up to once that price, so no prefix loses more than twice of it, whatever its callers do.
_MOST_LOST: Final = 1.0
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
    # What writes and reads have saved so far, as a multiple of the plain price of the prefix; less than 0 is a loss.
    saved: float = 0.0
    # The provider was asked to keep it and did not: it is shorter than it looks, or nothing is kept there.
    refused: bool = False

    def warm(self, now: float) -> PromptCacheTtl | None:
        """The lifetime of the entry that can be read; None where there is none."""
        return self.ttl if now < self.warm_until else None

    def keep(self, ttl: PromptCacheTtl, since: float) -> None:
        """It can be read now. A read renews an entry, and does not change its lifetime."""
        if self.warm(since) is None:
            self.ttl = ttl
        self.refused = False
        self.warm_until = max(self.warm_until, since + LIFETIME_SECONDS[self.ttl])

    @property
    def telling_gaps(self) -> GapCounts:
        """The gaps, as far as they may be relied on: not at all where that has cost too much already."""
        return self.gaps if self.saved >= -_MOST_LOST else GapCounts()


class Others(Protocol):
    """The other processes; `SharedHistory` is one. No method waits."""

    def find(self, key: PrefixKey) -> Record | None:
        """What they know of a prefix."""

    def asked(self, key: PrefixKey, at: float, *, expected: bool) -> None:
        """Tell them of a call, and whether it was known of before it came."""

    def answered(self, key: PrefixKey, at: float, record: Record, saved: float) -> None:
        """Tell them what an answer has made of a prefix, and how much it has saved."""


class PrefixHistory:
    """Records by prefix, the most recently asked ones. Whoever uses it in several threads guards it.

    Args:
        others: processes that see the same prefixes; None where this one stands alone.
    """

    def __init__(self, others: Others | None = None) -> None:
        self._records: OrderedDict[PrefixKey, Record] = OrderedDict()
        self._others = others

    def asked(
        self, prefixes: Iterable[Prefix], now: float, *, expected: bool = False
    ) -> list[Record]:
        """Note that a call begins with all of these; their records, in the same order.

        ``expected`` says that it was known of before it came: others learn less from its gaps.
        """
        return [self._asked(prefix.key, now, expected=expected) for prefix in prefixes]

    def kept(
        self,
        prefixes: Sequence[Prefix],
        marks: Mapping[int, PromptCacheTtl],
        *,
        since: float,
        rates: CacheRates,
    ) -> None:
        """An answer has begun to a request, sent at ``since``, that wrote or read the marked ones of its prefixes."""
        records = [(prefix.block, self._records.get(prefix.key)) for prefix in prefixes]
        read_to = max(
            (block for block, one in records if block in marks and one and one.warm(since)),
            default=-1,
        )
        keys = {prefix.block: prefix.key for prefix in prefixes}
        ttl: PromptCacheTtl | None = None
        for block, record in reversed(records):
            # A shorter prefix is written with the longer one that has a mark.
            ttl = marks.get(block, ttl)
            if record is None or ttl is None:
                continue
            saved = 1 - (rates.read if block <= read_to else rates.write(ttl))
            record.saved += saved
            if block in marks:
                record.keep(ttl, since)
            if self._others is not None:
                self._others.answered(keys[block], since, record, saved)

    def refused(
        self, prefixes: Sequence[Prefix], marks: Mapping[int, PromptCacheTtl], *, since: float
    ) -> None:
        """The marked prefixes were neither written nor read."""
        for prefix in prefixes:
            record = self._records.get(prefix.key)
            if record is not None and prefix.block in marks:
                record.refused = True
                record.warm_until = 0.0
                if self._others is not None:
                    self._others.answered(prefix.key, since, record, 0.0)

    def _asked(self, key: PrefixKey, now: float, *, expected: bool) -> Record:
        record = self._known(key)
        if self._others is not None:
            self._others.asked(key, now, expected=expected)
        if record is None:
            record = self._records[key] = Record(now)
            if len(self._records) > _KEPT:
                self._records.popitem(last=False)
            return record
        self._records.move_to_end(key)
        record.gaps = record.gaps.after(max(now - record.asked_at, 0.0))
        record.asked_at = now
        return record

    def _known(self, key: PrefixKey) -> Record | None:
        """The record of a prefix, as whoever asked it last has left it."""
        record = self._records.get(key)
        theirs = None if self._others is None else self._others.find(key)
        if theirs is None:
            return record
        if record is None:
            record = self._records[key] = theirs
        elif theirs.asked_at > record.asked_at:
            # In place: calls that wait hold it.
            record.asked_at, record.gaps, record.saved = theirs.asked_at, theirs.gaps, theirs.saved
            if theirs.warm_until > record.warm_until:
                record.warm_until, record.ttl = theirs.warm_until, theirs.ttl
        return record
