"""Numbers that are not known yet: the least, what is expected, and the most that can come."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Span:
    """A count. ``most`` is None where nothing bounds it yet."""

    least: int
    expected: int
    most: int | None

    @classmethod
    def exactly(cls, count: int) -> Span:
        """A count that is known."""
        return cls(count, count, count)

    def __add__(self, other: Span) -> Span:
        most = None if self.most is None or other.most is None else self.most + other.most
        return Span(self.least + other.least, self.expected + other.expected, most)

    def __mul__(self, other: Span) -> Span:
        if 0 in (self.most, other.most):
            most: int | None = 0
        else:
            most = None if self.most is None or other.most is None else self.most * other.most
        return Span(self.least * other.least, self.expected * other.expected, most)

    def or_nothing(self) -> Span:
        """The same, if it comes at all."""
        return Span(0, self.expected, self.most)


@dataclass(frozen=True, slots=True)
class DollarSpan:
    """An amount. A part is None where a price is unknown, or for ``most`` where nothing bounds it yet."""

    least: Decimal | None
    expected: Decimal | None
    most: Decimal | None

    def __add__(self, other: DollarSpan) -> DollarSpan:
        return DollarSpan(
            _sum(self.least, other.least),
            _sum(self.expected, other.expected),
            _sum(self.most, other.most),
        )

    def scaled(self, share: Decimal) -> DollarSpan:
        """A part of it, or a multiple."""
        least, expected, most = (
            None if one is None else one * share for one in (self.least, self.expected, self.most)
        )
        return DollarSpan(least, expected, most)


NOTHING: Final = Span(0, 0, 0)
NO_DOLLARS: Final = DollarSpan(Decimal(0), Decimal(0), Decimal(0))


def total(spans: Iterable[Span]) -> Span:
    """The sum; nothing of none."""
    return sum(spans, NOTHING)


def _sum(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if one is None or other is None else one + other
