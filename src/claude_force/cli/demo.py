"""``demo``: the main job on real files, against the simulator."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from claude_force.cli.options import RunOptions
from claude_force.reporting.numbers import counted

if TYPE_CHECKING:
    from claude_force.agents.attachments import Attachment, CollectedFiles
    from claude_force.domain.results import WorkflowResult

_WORKFLOW = "review"
_TASK = "Review these files before they are released."
# About 75,000 tokens: what one prompt can hold and a reader would still trust.
_MAX_TOTAL_BYTES: Final = 300_000


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option(
    "--scenario",
    default="calm",
    show_default=True,
    metavar="NAME|FILE",
    help="How the simulator behaves.",
)
def demo(paths: tuple[str, ...], scenario: str) -> None:
    """Three reviewers side by side on real files, then one verdict: no key needed, and no model runs.

    PATHs are files, folders or globs; without any, the folder src is taken, or what is here. Of more than 300 kB the
    first files are taken.
    """
    from claude_force.agents.attachments import collect_files
    from claude_force.agents.scaffold import STARTER_FOLDER
    from claude_force.cli.files import name_skipped

    collected = collect_files(
        paths or (("src",) if Path("src").is_dir() else (".",)),
        root=Path.cwd(),
        max_total_bytes=_MAX_TOTAL_BYTES,
        cut=True,
    )
    name_skipped(collected.skipped)
    _introduce(collected)
    files = collected.files
    options = RunOptions(
        config=STARTER_FOLDER / "claude.json",
        agents=None,
        base_url=None,
        timeout=None,
        max_concurrent=None,
        attempt_timeout=None,
        max_retries=None,
        simulate=True,
        scenario=scenario,
        no_cache=True,
        refresh=False,
        max_age=None,
        no_prompt_cache=False,
        budget=None,
        as_json=False,
    )
    result = asyncio.run(_execute(files, options))
    _conclude(result, options)


async def _execute(files: tuple[Attachment, ...], options: RunOptions) -> WorkflowResult:
    from claude_force.cli.run_workflow import execute

    return await execute(
        options,
        lambda force: force.load_workflow(_WORKFLOW),
        lambda force, on_event: force.execute_workflow(
            _WORKFLOW, _TASK, files=files, cache=options.cache, journal=False, on_event=on_event
        ),
    )


def _introduce(collected: CollectedFiles) -> None:
    files = collected.files
    lines = sum(file.text.count("\n") for file in files)
    which = (
        counted(len(files), "file")
        if collected.complete
        else f"the first {counted(len(files), 'file')}"
    )
    click.echo(f"A team of four agents looks at {which} ({lines:,} lines):")
    click.echo(
        "  code-reviewer, security-reviewer and test-reviewer side by side, then summarizer.\n"
    )


def _conclude(result: WorkflowResult, options: RunOptions) -> None:
    from claude_force.cli.render import print_text
    from claude_force.cli.run_workflow import report

    if "code" in result.results:
        click.echo("\nWhat the first reviewer answers:\n")
        print_text(result.results["code"])
    click.echo("\nThe verdict of the last agent, who has the answers of all three:\n")
    report(result, options, resumable=False)
    click.echo(
        "\nNo model ran: the answers are made up, the tokens are estimated, and nothing was paid. The price is what "
        "such a run would cost.\nNext, in a project of your own:\n"
        "  claude-force init\n"
        '  claude-force run workflow review --task "Review this" -f src --simulate\n'
        "  export ANTHROPIC_API_KEY=…      # then without --simulate"
    )
