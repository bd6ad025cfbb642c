"""The data that a report carries for its own script: each text once, and safe inside of HTML."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from claude_force.reporting.numbers import dollars
from claude_force.reporting.readable import readable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from decimal import Decimal

    from claude_force.domain.runs import CallRecord, RunRecord, StepRecord
    from claude_force.domain.usage import Usage

# A page of this size still opens at once; longer texts are cut until all fit.
MAX_TEXT_CHARACTERS: Final = 12_000_000
# Inside of a script element only `<` can end it; the others are for readers that are less exact than the standard.
_ESCAPES: Final = {
    ord("<"): "\\u003c",
    ord(">"): "\\u003e",
    ord("&"): "\\u0026",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


class _Texts:
    """Texts by number, each once: a prompt of a thousand calls is kept as one."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str | None) -> int | None:
        return None if text is None else self._numbers.setdefault(text, len(self._numbers))

    def cut_to(self, characters: int) -> list[str | list[object]]:
        """The texts; one that was cut is a pair of what is left and its whole length."""
        limit = longest_that_fits([len(text) for text in self._numbers], characters)
        return [text if len(text) <= limit else [text[:limit], len(text)] for text in self._numbers]


def embedded_json(run: RunRecord, *, critical: Collection[str]) -> str:
    """What the report's script needs, as JSON that can stand in a script element."""
    texts = _Texts()
    position = {step.step_id: number for number, step in enumerate(run.steps)}
    steps = [_step(step, position, texts, critical=step.step_id in critical) for step in run.steps]
    data = {"steps": steps, "texts": texts.cut_to(MAX_TEXT_CHARACTERS)}
    return safe_json(data)


def safe_json(data: object) -> str:
    """JSON in which no character can end a script element; parsed, it is ``data`` again.

    A lone surrogate stays as an escape, since it cannot be written as UTF-8.
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode("utf-8")


def longest_that_fits(lengths: Collection[int], total: int) -> int:
    """How long a text may be so that all of them, each cut to that, come to ``total`` at most."""
    left = total
    ordered = sorted(lengths)
    for index, length in enumerate(ordered):
        share = left // (len(ordered) - index)
        if length > share:
            return share
        left -= length
    return max(ordered, default=0)


def _step(
    step: StepRecord, position: Mapping[str, int], texts: _Texts, *, critical: bool
) -> dict[str, Any]:
    return _filled(
        {
            "id": step.step_id,
            "agent": step.agent_name,
            "state": step.state,
            "needs": [position[name] for name in step.dependencies if name in position],
            "start": _rounded(step.started_seconds),
            "end": _rounded(step.ended_seconds),
            "critical": critical,
            "error": step.error_message,
            "kind": step.error_kind,
            "reason": step.reason,
            "text": _answer(step.text, texts),
            "calls": [_call(call, texts) for call in step.calls],
        }
    )


def _call(call: CallRecord, texts: _Texts) -> dict[str, Any]:
    place = call.place
    return _filled(
        {
            "item": place.item_index,
            "round": place.round if place.round > 1 else None,
            "repair": place.repair or None,
            "agent": call.agent_name,
            "model": call.model,
            "prompt": [[part.role, texts.number(part.text)] for part in call.prompt],
            "text": _answer(call.text, texts),
            "usage": _usage(call.usage),
            "cost": _cost(call.cost_usd),
            "saved": _cost(call.saved_usd) if call.saved_usd is not None else None,
            "attempts": call.attempts,
            "cached": call.cached_tier,
            "start": _rounded(call.started_seconds),
            "end": _rounded(call.ended_seconds),
            "key": call.key,
            "request": call.request_id,
            "error": call.error_message,
            "kind": call.error_kind,
        }
    )


def _answer(text: str | None, texts: _Texts) -> int | None:
    return texts.number(None if text is None else readable(text))


def _usage(usage: Usage) -> list[int]:
    return [
        usage.input_tokens,
        usage.cache_write_tokens,
        usage.cache_read_tokens,
        usage.output_tokens,
    ]


def _cost(cost_usd: Decimal | None) -> str:
    return dollars(cost_usd)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not there: a thousand steps repeat each of it."""
    return {
        name: value
        for name, value in fields.items()
        if value is not None and value is not False and value != []
    }
