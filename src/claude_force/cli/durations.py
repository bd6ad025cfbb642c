"""Durations, amounts and similarities as a person writes them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from click import Context, Parameter

_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_WRITTEN: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


class Duration(click.ParamType[float]):
    """A number with a unit, such as ``90s``, ``15m``, ``1.5h``, ``7d``, ``2w``; the value is in seconds."""

    name = "duration"

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> float:  # noqa: ANN401 - click's
        """Seconds."""
        if isinstance(value, (int, float)):
            return float(value)
        match = _WRITTEN.fullmatch(str(value).strip())
        if match is None:
            self.fail(
                f"{value!r} is no duration; write something like 90s, 15m, 1h or 7d.", param, ctx
            )
        return float(match[1]) * _UNIT_SECONDS[match[2]]


class Dollars(click.ParamType[Decimal]):
    """An amount in dollars, such as ``2.50``; the value is exact."""

    name = "dollars"

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> Decimal:  # noqa: ANN401 - click's
        """The amount."""
        from claude_force.config.budgets import dollars

        amount = dollars(value.removeprefix("$") if isinstance(value, str) else value)
        if amount is None:
            self.fail(f"{value!r} is no amount; write something like 2.50.", param, ctx)
        return amount


class Cosine(click.ParamType["float | str"]):
    """A similarity above 0 and at most 1, or ``default``."""

    name = "cosine"

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> float | str:  # noqa: ANN401 - click's
        """The similarity."""
        if value == "default":
            return "default"
        try:
            cosine = float(value)
        except ValueError:
            cosine = 0.0
        # Asked this way round, so that NaN does not pass.
        if not 0 < cosine <= 1:
            self.fail(
                f"{value!r} is no similarity; write a number above 0 and at most 1, or nothing, and the agent before "
                "the option.",
                param,
                ctx,
            )
        return cosine


def age(seconds: float) -> str:
    """An age in the largest unit that gives at least 1, such as ``3 min`` or ``2 d``."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
