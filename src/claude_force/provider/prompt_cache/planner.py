"""Decides where a request is marked for the prompt cache. Pure: no clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from claude_force.domain.messages import PromptCacheTtl
    from claude_force.provider.prompt_cache.outlook import CacheRates, Outlook

MOST_MARKS: Final = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a request is marked."""

    # Lifetimes by block.
    marks: Mapping[int, PromptCacheTtl]
    # What the call will write: prefixes with a mark that nothing can be read of yet.
    written: tuple[Outlook, ...] = ()


@dataclass(frozen=True, slots=True)
class _Write:
    outlook: Outlook
    ttl: PromptCacheTtl
    reads: float


def plan_marks(
    outlooks: Sequence[Outlook], rates: CacheRates, *, one_hour: bool, may_write: bool = True
) -> Plan:
    """The marks of a call, four at most.

    The longest prefix that can be read is always marked, which costs nothing: without a mark it would not be read.
    Behind it, a prefix is written only where the calls that will read it pay for the write. Where some calls go on
    differently from the others, the part that all have in common gets a mark of its own.

    Args:
        outlooks: the beginnings of the prompt that reach the model's minimum, the shortest first.
        rates: what writing and reading cost.
        one_hour: whether the longer lifetime may be chosen.
        may_write: False leaves plain whatever cannot be read.
    """
    warm = max(
        (at for at, outlook in enumerate(outlooks) if outlook.warm is not None), default=None
    )
    cold = outlooks if warm is None else outlooks[warm + 1 :]
    room = MOST_MARKS if warm is None else MOST_MARKS - 1
    writes = _fitting(_writes(cold, rates, one_hour=one_hour), room) if may_write else []
    marks: dict[int, PromptCacheTtl] = {}
    if warm is not None:
        marks[outlooks[warm].prefix.block] = outlooks[warm].warm or "5m"
    marks |= {write.outlook.prefix.block: write.ttl for write in writes}
    return Plan(_in_order(marks), tuple(write.outlook for write in writes))


def _writes(cold: Sequence[Outlook], rates: CacheRates, *, one_hour: bool) -> list[_Write]:
    """What pays, the longest first: each shorter prefix only where more calls read it than the longer one."""
    found: list[_Write] = []
    for outlook in reversed(cold):
        ttl = outlook.best_lifetime(rates, one_hour=one_hour)
        if ttl is not None:
            reads = outlook.reads(ttl)
            if not found or reads > found[-1].reads:
                found.append(_Write(outlook, ttl, reads))
    return found


def _fitting(writes: list[_Write], room: int) -> list[_Write]:
    """The longest and those of the others that are missed most, the shortest first."""
    ordered = writes[::-1]
    while len(ordered) > room:
        losses = [_loss(ordered, at) for at in range(len(ordered) - 1)]
        del ordered[losses.index(min(losses))]
    return ordered


def _loss(ordered: list[_Write], at: int) -> float:
    """Tokens that are not read when the mark at this place is left out: its own readers go back to the one before."""
    write = ordered[at]
    before = ordered[at - 1].outlook.prefix.tokens if at else 0
    return (write.reads - ordered[at + 1].reads) * (write.outlook.prefix.tokens - before)


def _in_order(marks: dict[int, PromptCacheTtl]) -> dict[int, PromptCacheTtl]:
    """The API takes no hour after five minutes: a mark before one of an hour lasts an hour too."""
    last_hour = max((block for block, ttl in marks.items() if ttl == "1h"), default=-1)
    return {block: "1h" if block <= last_hour else ttl for block, ttl in marks.items()}
