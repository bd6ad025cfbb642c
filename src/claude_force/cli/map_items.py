"""The items of a map as calls, for every command that takes them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claude_force.domain.errors import InputError, ItemsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from claude_force.agents.calls import AgentCall
    from claude_force.agents.registry import AgentRegistry
    from claude_force.cli.options import AnswerOptions
    from claude_force.domain.messages import CacheUse
    from claude_force.workflows.items import MapItem

_MOST_PROBLEMS_SHOWN = 20


def calls_of(
    items: Sequence[MapItem],
    agent_name: str | None,
    answer: AnswerOptions,
    cache: CacheUse,
    registry: AgentRegistry,
) -> list[AgentCall]:
    """The calls of items, all checked; ``agent_name`` is for those that name none.

    Raises:
        ItemsError: with every line that cannot be used.
    """
    from claude_force.domain.messages import CallContext

    calls, problems = [], []
    for item in items:
        if item.agent_name is None and agent_name is None:
            problems.append(f"  line {item.line}: it names no agent, and neither does --agent")
            continue
        try:
            call = replace(map_call(item, agent_name or "", answer), cache=cache)
            call.to_request(registry, CallContext())
            calls.append(call)
        except InputError as error:
            problems.append(f"  line {item.line}: {error}")
    if problems:
        shown = "\n".join(problems[:_MOST_PROBLEMS_SHOWN])
        raise ItemsError(f"The items cannot be used; nothing was sent:\n{shown}")
    return calls


def map_call(item: MapItem, agent_name: str, answer: AnswerOptions) -> AgentCall:
    """The call of one item; its files are read now."""
    from claude_force.agents.attachments import collect_files
    from claude_force.agents.calls import AgentCall

    files = collect_files(item.files, root=Path.cwd()).files if item.files else ()
    return AgentCall(
        agent_name=item.agent_name or agent_name,
        task=item.task,
        item_id=str(item.item_id),
        files=files,
        model=answer.model,
        max_tokens=answer.max_tokens,
        effort=answer.effort,
        fallback=answer.fallback,
        continue_truncated=answer.continue_truncated,
        use_memory=answer.use_memory,
    )


def read_items(path: Path) -> list[MapItem]:
    """Every item of a file, or of stdin for ``-``.

    Raises:
        ItemsError: the file cannot be read, or lines of it cannot be used.
    """
    from claude_force.workflows.items import parse_items

    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ItemsError(
            f"The items cannot be read from {str(path)!r}: {error.strerror}."
        ) from error
    except UnicodeDecodeError as error:
        raise ItemsError(f"{str(path)!r} is not UTF-8 text ({error.reason}).") from error
    return parse_items(text.split("\n"))


def waiting_teller() -> Callable[[int], None]:
    """Says how many results are waited for, each time it is another number."""
    said: list[int] = [0]

    def tell(count: int) -> None:
        if count and count != said[-1]:
            click.echo(f"Waiting for {count:,} results of batches.", err=True)
        said.append(count)

    return tell
