"""A mergeable histogram of durations, from which percentiles are read with a known relative error."""

from __future__ import annotations

import math
import sys
from array import array
from bisect import bisect_left
from collections import Counter
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

# A percentile is at most this far from the true sample, as a share of it, between the two bounds.
RELATIVE_ERROR: Final = 0.01
SMALLEST_SECONDS: Final = 0.001
LARGEST_SECONDS: Final = 86_400.0

_RATIO: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_RATIO: Final = math.log(_RATIO)
_LAST: Final = math.ceil(math.log(LARGEST_SECONDS / SMALLEST_SECONDS) / _LOG_RATIO)
# The value of a bucket that is equally far, in relative terms, from both of its ends.
_MIDDLE: Final = 2 / (_RATIO + 1)

# Buckets lie side by side in one integer, so that two sketches merge by one addition. Four billion durations fit
# into a bucket before it would run over into its neighbour.
_LANE_BYTES: Final = 4
_LANE_BITS: Final = 8 * _LANE_BYTES
# Of the stored form: bytes of a count, by the typecode of the array that reads them.
_TYPECODES: Final = {1: "B", 2: "H", 4: "I"}
_HEAD_BYTES: Final = 3


class Sketch:
    """Counts of durations in buckets whose width grows with their value, 914 from 1 ms to a day.

    The idea is that of DDSketch (Masson, Rim, Lee 2019): bucket ``i`` holds what lies between ``r^(i-1)`` and ``r^i``
    milliseconds, with ``r = 1.01 / 0.99``. Written here because merging has to cost a microsecond in plain Python.
    Shorter durations count as 1 ms, longer ones as a day.
    """

    __slots__ = ("_decoded", "_stored")

    def __init__(self, lanes: int = 0, stored: bytes | None = None) -> None:
        self._decoded = lanes
        # What is read to be looked at, not merged, is never decoded.
        self._stored = stored

    @property
    def _lanes(self) -> int:
        if self._stored is not None:
            self._decoded, self._stored = _decode(self._stored), None
        return self._decoded

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Sketch:
        """The sketch of these durations."""
        counts = array("I", bytes(_LANE_BYTES * (_LAST + 1)))
        for bucket, count in Counter(map(_bucket, seconds)).items():
            counts[bucket] = count
        return cls(int.from_bytes(_little(counts), "little"))

    def merge(self, other: Sketch) -> None:
        """Count what ``other`` has counted too."""
        self._decoded = self._lanes + other._lanes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sketch) and self._lanes == other._lanes

    __hash__ = None  # type: ignore[assignment] # it changes

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self._trimmed()[1])

    def quantiles(self, *shares: float) -> tuple[float | None, ...]:
        """The durations in seconds that these shares of all do not exceed (nearest rank); None where there is none."""
        first, counts = self._trimmed()
        if not counts:
            return (None,) * len(shares)
        below = list(accumulate(counts))
        ranks = (max(math.ceil(share * below[-1]), 1) for share in shares)
        return tuple(_value(first + bisect_left(below, rank)) for rank in ranks)

    def counts_up_to(self, bounds: Iterable[float]) -> list[int]:
        """How many durations do not exceed each of these seconds; those within 1 % of one may be on either side."""
        first, counts = self._trimmed()
        below = [0, *accumulate(counts)]
        found = []
        for bound in bounds:
            bucket = _bucket(bound)
            place = bucket - first + (_value(bucket) <= bound)
            found.append(below[min(max(place, 0), len(counts))])
        return found

    @property
    def total_seconds(self) -> float:
        """All durations together, within 1 %."""
        first, counts = self._trimmed()
        return sum(count * _value(first + place) for place, count in enumerate(counts) if count)

    def to_bytes(self) -> bytes:
        """The stored form: bytes of a count, first bucket, then the counts from the first to the last one in use."""
        first, counts = self._trimmed()
        if not counts:
            return b""
        largest = max(counts)
        width = 1 if largest < 1 << 8 else 2 if largest < 1 << 16 else 4
        packed = array(_TYPECODES[width], counts)
        return bytes((width, *first.to_bytes(2, "little"))) + _little(packed)

    @classmethod
    def from_bytes(cls, stored: bytes) -> Sketch:
        """The sketch that ``to_bytes`` was asked of."""
        return cls(stored=stored or None)

    def _trimmed(self) -> tuple[int, array[int] | bytes]:
        """The first bucket in use, and the counts from there to the last one."""
        stored = self._stored
        if stored is not None and stored[0] == 1:
            # Counts of one byte each are counts as they stand.
            return int.from_bytes(stored[1:_HEAD_BYTES], "little"), stored[_HEAD_BYTES:]
        lanes = self._lanes
        counts = array("I")
        if not lanes:
            return 0, counts
        # The lowest bit that is set lies in the first lane in use.
        first = ((lanes & -lanes).bit_length() - 1) // _LANE_BITS
        lanes >>= first * _LANE_BITS
        lanes_in_use = -(-lanes.bit_length() // _LANE_BITS)
        counts.frombytes(lanes.to_bytes(lanes_in_use * _LANE_BYTES, "little"))
        if sys.byteorder == "big":
            counts.byteswap()
        return first, counts


def _decode(stored: bytes) -> int:
    width, counts = stored[0], stored[_HEAD_BYTES:]
    # Widened byte by byte with slices, which is ten times as fast as count by count.
    lanes = bytearray(len(counts) // width * _LANE_BYTES)
    for byte in range(width):
        lanes[byte::_LANE_BYTES] = counts[byte::width]
    first = int.from_bytes(stored[1:_HEAD_BYTES], "little")
    return int.from_bytes(lanes, "little") << _LANE_BITS * first


# The first bucket whose upper end a duration does not exceed. A search in a list is quicker than a logarithm, because
# nothing of it is Python; NaN, which exceeds nothing, falls into the first bucket.
_bucket = partial(bisect_left, [SMALLEST_SECONDS * _RATIO**bucket for bucket in range(_LAST)])


def _value(bucket: int) -> float:
    return SMALLEST_SECONDS * _RATIO**bucket * _MIDDLE


def _little(counts: array[int]) -> bytes:
    if sys.byteorder == "big":
        counts = counts[:]
        counts.byteswap()
    return counts.tobytes()
