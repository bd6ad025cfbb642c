"""Seeded randomness that depends on what is asked, never on when or in which order."""

from __future__ import annotations

import math
from hashlib import blake2b


class Draws:
    """Numbers for one request: the same seed, request and label always give the same number.

    A hash instead of ``random.Random``: a generator has state, so its numbers would depend on the order of arrival,
    and seeding one for each request costs more than the whole answer.
    """

    __slots__ = ("_key",)

    def __init__(self, seed: int, *parts: str | int) -> None:
        self._key = "\x1f".join(map(str, (seed, *parts))).encode()

    def integer(self, label: str) -> int:
        """A whole number of 64 bits."""
        digest = blake2b(self._key + b"\x1f" + label.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big")

    def uniform(self, label: str) -> float:
        """A number in [0, 1)."""
        return (self.integer(label) >> 11) / (1 << 53)

    def between(self, label: str, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return low + self.integer(label) % (high - low + 1)

    def lognormal(self, label: str, *, median: float, sigma: float) -> float:
        """A positive number: half of all draws lie below ``median``; ``sigma`` 0 gives the median itself."""
        radius = math.sqrt(-2.0 * math.log(1.0 - self.uniform(label + ".radius")))
        return median * math.exp(
            sigma * radius * math.cos(math.tau * self.uniform(label + ".angle"))
        )
