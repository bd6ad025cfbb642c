"""``run agent``: one agent, its answer streamed."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, Literal

import click

from claude_force.agents.calls import AgentCall
from claude_force.cli.interrupt import interruptible
from claude_force.cli.options import (
    answer_options,
    apply,
    file_option,
    memory_option,
    open_orchestrator,
    run_options,
    semantic_option,
    split_options,
    with_semantic_cache,
)
from claude_force.domain.errors import AttachmentError, ConfigError, TaskError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_force.agents.attachments import Attachment
    from claude_force.cli.options import RunOptions
    from claude_force.domain.results import AgentResult
    from claude_force.orchestrator import AsyncAgentOrchestrator

_agent_options = apply(
    file_option,
    answer_options,
    run_options,
    semantic_option,
    memory_option,
    click.option(
        "--stream/--no-stream",
        default=True,
        help="Print text as it arrives, or the whole answer once it is complete.",
    ),
    click.option(
        "--async",
        "_async",
        is_flag=True,
        help="Accepted for older scripts; every call is asynchronous.",
    ),
)


def _only_dash(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value not in {None, "-"}:
        raise click.BadParameter(
            f"only '-' can stand here, for standard input; did you mean --task {value!r}?"
        )
    return value


@click.command(
    epilog="""\b
Examples:
  claude-force run agent code-reviewer --task "Review this" --file src/app.py
  git diff | claude-force run agent code-reviewer --task "Review this diff" -"""
)
@click.argument("name")
@click.argument("stdin", required=False, callback=_only_dash, metavar="[-]")
@click.option("--task", "-t", help="What to do. With '-' alone, stdin is the task.")
@_agent_options
def agent(name: str, stdin: Literal["-"] | None, task: str | None, **values: Any) -> None:  # noqa: ANN401 - click's
    """Run the agent NAME and stream its answer to stdout; '-' attaches stdin."""
    _run(name, task, values, from_stdin=stdin is not None)


@click.command(hidden=True)
@click.argument("name", metavar="AGENT")
@click.argument("task")
@_agent_options
def execute(name: str, task: str, **values: Any) -> None:  # noqa: ANN401 - click's
    """Run AGENT on TASK: the older form of `run agent`."""
    _run(name, task, values, from_stdin=False)


def _run(name: str, task: str | None, values: dict[str, Any], *, from_stdin: bool) -> None:
    values.pop("_async")
    patterns, stream = values.pop("files"), values.pop("stream")
    semantic = values.pop("semantic_cache")
    options, answer = split_options(values)
    options = with_semantic_cache(options, name, semantic)
    text, piped = _task_and_stdin(task, from_stdin=from_stdin)
    if semantic is not None and (patterns or piped is not None):
        raise ConfigError(
            "--semantic-cache is for tasks without files: two files are never similar enough. Nothing was sent."
        )
    call = AgentCall(
        agent_name=name,
        task=text,
        files=_attachments(patterns, piped),
        model=answer.model,
        max_tokens=answer.max_tokens,
        effort=answer.effort,
        cache=options.cache,
        fallback=answer.fallback,
        continue_truncated=answer.continue_truncated,
        use_memory=answer.use_memory,
    )
    stream = stream and not options.as_json
    result = asyncio.run(_ask(call, options, stream=stream))
    _report(result, options, streamed=stream)


async def _ask(call: AgentCall, options: RunOptions, *, stream: bool) -> AgentResult:
    async with open_orchestrator(options) as force, interruptible(force):
        return await (_stream(force, call) if stream else force.run_call(call))


async def _stream(force: AsyncAgentOrchestrator, call: AgentCall) -> AgentResult:
    from claude_force.cli.answer_printer import AnswerPrinter
    from claude_force.domain.events import CallFinished

    printer = AnswerPrinter(sys.stdout, sys.stderr)
    result: AgentResult | None = None
    try:
        async for event in force.stream_call(call):
            printer(event)
            if isinstance(event, CallFinished):
                result = event.result
    finally:
        printer.end()
    assert result is not None  # noqa: S101 - the stream ends in CallFinished or raises
    return result


def _attachments(patterns: Sequence[str], piped: Attachment | None) -> tuple[Attachment, ...]:
    files: tuple[Attachment, ...] = () if piped is None else (piped,)
    if not patterns:
        return files
    from claude_force.cli.files import collect

    return collect(patterns) + files


def _task_and_stdin(task: str | None, *, from_stdin: bool) -> tuple[str, Attachment | None]:
    """The task, and what was piped in beside it; without a task of its own, what was piped in is the task."""
    if not from_stdin:
        if task is None:
            raise TaskError(
                'There is no task. Give one with --task "…", or pipe it in and name it with "-".'
            )
        return task, None
    from claude_force.agents.attachments import stdin_attachment

    piped = stdin_attachment(sys.stdin.buffer.read())
    if not piped.text.strip():
        raise AttachmentError(
            "Standard input is empty, so there is nothing to ask about; nothing was sent."
        )
    return (piped.text, None) if task is None else (task, piped)


def _report(result: AgentResult, options: RunOptions, *, streamed: bool) -> None:
    from claude_force.cli.render import (
        print_json,
        print_text,
        result_json,
        summary,
        tell_saving,
    )

    if options.as_json:
        print_json(result_json(result))
    elif not streamed:
        print_text(result.text)
    click.echo(summary(result), err=True)
    tell_saving((result,))
