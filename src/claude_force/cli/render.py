"""Numbers and texts as a person reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from claude_force.agents.cleaning import clean_text
from claude_force.domain.errors import CallError, IncompleteAnswerError
from claude_force.workflows.json_lines import json_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal

    from claude_force.domain.errors import ClaudeForceError
    from claude_force.domain.messages import CacheHit
    from claude_force.domain.results import AgentOutcome, AgentResult, StepResult, WorkflowResult
    from claude_force.domain.usage import Usage
    from claude_force.pricing.prompt_cache_saving import PromptCacheSaving


def dollars(cost_usd: Decimal | None) -> str:
    """An amount with enough digits to be worth reading; an unknown one says so."""
    if cost_usd is None:
        return "price unknown"
    if cost_usd == 0:
        return "$0"
    return (
        f"${cost_usd:.2f}"
        if cost_usd >= 1
        else f"${cost_usd:.4f}"
        if cost_usd >= 0.0001
        else f"${cost_usd:.7f}"
    )


def tokens(usage: Usage) -> str:
    """Tokens in and out; cached ones are named where there are any."""
    cached = (
        f", {usage.cache_read_tokens:,} from the prompt cache" if usage.cache_read_tokens else ""
    )
    return f"{usage.total_input_tokens:,} tokens in{cached}, {usage.output_tokens:,} out"


def summary(result: AgentResult) -> str:
    """One line on how an answer came about."""
    memories = _memories(result)
    if result.cached is not None:
        return f"{result.agent_name} · {result.model} · {cached(result.cached)} · {result.seconds * 1000:.0f} ms{memories}"
    retried = f" · {result.attempts} attempts" if result.attempts > 1 else ""
    model = result.model
    if result.fallback_from is not None:
        model = f"{result.model} (fallback: {result.fallback_from} could not answer)"
    return (
        f"{result.agent_name} · {model} · {tokens(result.usage)} · {dollars(result.cost_usd)} · "
        f"{result.seconds:.1f} s{retried}{memories}"
    )


def _memories(result: AgentResult) -> str:
    """How many memories an answer was given; nothing for a call without a memory."""
    if result.recalled is None:
        return ""
    count = len(result.recalled)
    return f" · {count} {'memory' if count == 1 else 'memories'} recalled"


def prompt_cache_saving() -> PromptCacheSaving:
    """Adds up what the prompt cache saves, at today's prices."""
    from datetime import UTC, datetime

    from claude_force.pricing.catalogue import PriceCatalogue
    from claude_force.pricing.prompt_cache_saving import PromptCacheSaving

    catalogue = PriceCatalogue()
    return PromptCacheSaving(lambda model: catalogue.tariff(model, at=datetime.now(UTC)))


def tell_saving(results: Iterable[AgentResult]) -> None:
    """Say on stderr what the prompt cache saved on these answers; nothing where it had no part in them."""
    saving = prompt_cache_saving()
    saving.add(results)
    tell_total(saving)


def tell_total(saving: PromptCacheSaving) -> None:
    """The same for what was added up already."""
    total = saving.total_usd
    if total:
        amount = dollars(abs(total))
        # The next command may read it: it was written because earlier ones came again in time.
        did = f"saved {amount}" if total > 0 else f"was written for {amount}, and not read yet"
        click.echo(f"The prompt cache {did}.", err=True)


def cached(hit: CacheHit) -> str:
    """Where an answer came from that was not paid for this time."""
    from claude_force.cli.durations import age
    from claude_force.reporting.numbers import source

    stale = ", stale" if hit.stale else ""
    saved = f", saved {dollars(hit.saved_usd)}" if hit.saved_usd is not None else ""
    return f"from the cache ({source(hit)}, {age(hit.age_seconds)} old{stale}){saved}"


def result_json(result: AgentResult) -> dict[str, Any]:
    """A result as JSON; dollars as text, so that no digit is lost."""
    return {
        "ok": result.ok,
        "agent": result.agent_name,
        "text": result.text,
        "stop_reason": result.stop_reason,
        "model": result.model,
        "requested_model": result.requested_model,
        "fallback_from": result.fallback_from,
        "usage": usage_json(result.usage),
        "cost_usd": None if result.cost_usd is None else str(result.cost_usd),
        "cached": None if result.cached is None else _cached_json(result.cached),
        "recalled": None if result.recalled is None else list(result.recalled),
        "attempts": result.attempts,
        "seconds": round(result.seconds, 3),
        "request_id": result.request_id,
    }


def _cached_json(hit: CacheHit) -> dict[str, Any]:
    match = hit.match
    answered = (
        {}
        if match is None
        else {"similarity": round(match.similarity, 4), "answered_task": match.task}
    )
    return answered | {
        "tier": hit.tier,
        "age_seconds": round(hit.age_seconds, 3),
        "stale": hit.stale,
        "saved_usd": None if hit.saved_usd is None else str(hit.saved_usd),
    }


def usage_json(usage: Usage) -> dict[str, int]:
    """Token counts as JSON."""
    return {
        "input_tokens": usage.input_tokens,
        "cache_write_5m_tokens": usage.cache_write_5m_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
    }


def error_json(error: ClaudeForceError) -> dict[str, Any]:
    """An error as JSON: a stable word, the message, and of a call what it took and what was left of its answer."""
    fields: dict[str, Any] = {
        "kind": error.kind,
        "message": str(error),
        "exit_code": error.exit_code,
    }
    if isinstance(error, CallError):
        fields |= {
            "status": error.status,
            "request_id": error.request_id,
            "attempts": error.attempts,
            "usage": usage_json(error.usage),
            "cost_usd": None
            if error.usages and error.cost_usd is None
            else str(error.cost_usd or 0),
        }
    if isinstance(error, IncompleteAnswerError):
        fields |= {
            "stop_reason": error.response.stop_reason,
            "unfinished_text": error.response.text,
        }
    return fields


def step_json(step: StepResult) -> dict[str, Any]:
    """A step of a workflow as JSON."""
    return {
        "step": step.step_id,
        "agent": step.agent_name,
        "state": step.state,
        "reason": step.reason,
        "started_seconds": _rounded(step.started_seconds),
        "ended_seconds": _rounded(step.ended_seconds),
        "result": result_json(step.result) if step.result else None,
        "error": error_json(step.error) if step.error else None,
        **({"items": list(map(_item_json, step.items))} if step.items else {}),
    }


def _item_json(item: AgentOutcome) -> dict[str, Any]:
    return {
        "ok": item.ok,
        "result": result_json(item.result) if item.result else None,
        "error": error_json(item.error) if item.error else None,
    }


def print_json(value: object) -> None:
    """One JSON object on stdout, on one line."""
    click.echo(json_line(value))


def print_text(text: str) -> None:
    """A text of a model on stdout, without anything that would steer the terminal."""
    click.echo(clean_text(text))


def final_text(result: WorkflowResult) -> str:
    """What a run comes to, for a reader: the answers of its last steps, also those of items beside which others failed."""
    from claude_force.reporting.readable import joined, readable

    found = []
    for step in map(result.steps.__getitem__, result.final_steps):
        if (text := step.text) is not None:
            found.append(readable(text))
        elif any(item.ok for item in step.items):
            found.append(joined([item.result.text if item.result else None for item in step.items]))
    return "\n\n".join(found)


def columns(rows: Iterable[Sequence[str]], *, width: int) -> list[str]:
    """Rows as aligned lines; the last column takes what is left of ``width`` and is cut there.

    Nothing in a cell steers the terminal: what files say of agents is as untrusted as a model's text.
    """
    table = [[" ".join(clean_text(cell).split()) for cell in row] for row in rows]
    if not table:
        return []
    widths = [max(len(row[index]) for row in table) for index in range(len(table[0]) - 1)]
    room = max(width - sum(widths) - 2 * len(widths), 20)
    lines = []
    for row in table:
        last = row[-1] if len(row[-1]) <= room else row[-1][: room - 1] + "…"
        lines.append(
            "  ".join(
                [*(cell.ljust(size) for cell, size in zip(row, widths, strict=False)), last]
            ).rstrip()
        )
    return lines


def terminal_width() -> int:
    """Columns of the terminal; 120 where stdout is none, so that a file is not cut at a chance width."""
    import shutil

    return shutil.get_terminal_size((120, 24)).columns


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
