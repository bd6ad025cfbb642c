"""What is usual, said so that a few odd days do not change it, and whether a figure is beyond it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

# Below this many calls nothing is said.
MIN_CALLS: Final = 30
# And with fewer days to compare with neither.
MIN_DAYS: Final = 7
# Makes the median absolute deviation of normal figures their standard deviation.
_TO_DEVIATION: Final = 1.4826
# One-sided 99 %.
_Z: Final = 2.33


@dataclass(frozen=True, slots=True)
class Usual:
    """The median of earlier figures, and how far they ordinarily lie from it (a standard deviation)."""

    middle: float
    spread: float


def usual(figures: Sequence[float]) -> Usual | None:
    """What is usual among them; None where there are too few to say."""
    if len(figures) < MIN_DAYS:
        return None
    middle = median(figures)
    return Usual(middle, _TO_DEVIATION * median(abs(figure - middle) for figure in figures))


def lower_bound(count: int, of: int) -> float:
    """The share that ``count`` of ``of`` shows with 99 % certainty (Wilson's interval); 0 for none."""
    if not of:
        return 0.0
    share, z2 = count / of, _Z * _Z
    centre = share + z2 / (2 * of)
    margin = _Z * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max((centre - margin) / (1 + z2 / of), 0.0)


def chance_of(count: int, of: int, share: float) -> float:
    """How likely ``count`` or more of ``of`` are, where each has a chance of ``share`` (below 1)."""
    if count <= 0:
        return 1.0
    # In logarithms: the number of ways grows beyond any float.
    log_share, log_rest = math.log(share), math.log1p(-share)
    ways = math.lgamma(of + 1)
    terms = (
        math.exp(
            ways
            - math.lgamma(k + 1)
            - math.lgamma(of - k + 1)
            + k * log_share
            + (of - k) * log_rest
        )
        for k in range(count, of + 1)
    )
    return min(sum(terms), 1.0)
