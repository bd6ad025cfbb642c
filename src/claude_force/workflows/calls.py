"""Calls that are not made yet: how large, to whom, and for how many dollars."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from claude_force.domain.models import prompt_cache_minimum
from claude_force.domain.usage import Usage
from claude_force.pricing.prompt_cache_saving import saving_usd
from claude_force.workflows.spans import DollarSpan, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from claude_force.domain.messages import PromptCacheTtl
    from claude_force.pricing.tariff import Tariff
    from claude_force.provider.prompt_cache.prefixes import Prefix

EXPECTED_OUTPUT_TOKENS: Final = 800
_ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One call as far as it is known."""

    # Ids of the model that is asked, and of those that are asked when it cannot answer.
    models: tuple[str, ...]
    input_tokens: Span
    max_tokens: int
    # What its prompt is known to begin with, as far as the prompt cache can keep it.
    beginnings: tuple[Prefix, ...] = ()
    # How much of its prompt it is expected to write into the prompt cache, and to read from there.
    written_tokens: int = 0
    read_tokens: int = 0

    @property
    def output_tokens(self) -> Span:
        """Of one answer."""
        return Span(1, min(EXPECTED_OUTPUT_TOKENS, self.max_tokens), self.max_tokens)

    def with_input(self, more: Span) -> Question:
        """The same with a longer prompt."""
        return replace(self, input_tokens=self.input_tokens + more)

    def again(self) -> Question:
        """The same once more, soon after: it reads what was written."""
        return replace(self, written_tokens=0, read_tokens=self.read_tokens + self.written_tokens)


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of one size."""

    count: Span
    question: Question
    # Repairs and later rounds: asked after another one, whose answer theirs takes the place of.
    follows: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What models charge on the day of a run."""

    # By model id; None for one whose price is not known.
    tariffs: Mapping[str, Tariff | None]
    # The longest that the provider's prompt cache may be asked to keep a prompt; None where it is not used.
    longest_kept: PromptCacheTtl | None = "1h"

    def cost_usd(self, calls: Calls) -> DollarSpan:
        """Dollars of all of them."""
        question, count = calls.question, calls.count
        known = [one for model in question.models if (one := self.tariffs.get(model)) is not None]
        first = self.tariffs.get(question.models[0])
        expected = None if first is None else count.expected * first.cost_usd(_expected(question))
        if len(known) < len(question.models):
            return DollarSpan(None, expected, None)
        least = min(tariff.cost_usd(_least(question)) for tariff in known)
        return DollarSpan(count.least * least, expected, self._most_usd(calls, known))

    def prompt_cache_saving_usd(self, calls: Calls) -> Decimal | None:
        """What the prompt cache is expected to save on them; None where the price is not known."""
        tariff = self.tariffs.get(calls.question.models[0])
        if tariff is None:
            return None
        return calls.count.expected * saving_usd(_expected(calls.question), tariff)

    def _most_usd(self, calls: Calls, tariffs: Iterable[Tariff]) -> Decimal | None:
        if calls.count.most == 0:
            return _ZERO
        if calls.count.most is None or calls.question.input_tokens.most is None:
            return None
        usage = self._most(calls.question.input_tokens.most, calls.question)
        return calls.count.most * max(tariff.cost_usd(usage) for tariff in tariffs)

    def _most(self, input_tokens: int, question: Question) -> Usage:
        """Written to the prompt cache for as long as it may be; what is below a model's minimum is never marked."""
        tokens, output_tokens = input_tokens, question.max_tokens
        small = tokens < min(map(prompt_cache_minimum, question.models))
        if small or self.longest_kept is None:
            return Usage(input_tokens=tokens, output_tokens=output_tokens)
        if self.longest_kept == "5m":
            return Usage(cache_write_5m_tokens=tokens, output_tokens=output_tokens)
        return Usage(cache_write_1h_tokens=tokens, output_tokens=output_tokens)


def _least(question: Question) -> Usage:
    return Usage(
        cache_read_tokens=question.input_tokens.least, output_tokens=question.output_tokens.least
    )


def _expected(question: Question) -> Usage:
    written, read = question.written_tokens, question.read_tokens
    return Usage(
        input_tokens=question.input_tokens.expected - written - read,
        cache_write_5m_tokens=written,
        cache_read_tokens=read,
        output_tokens=question.output_tokens.expected,
    )
