"""The command ``claude-force``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from claude_force._version import __version__
from claude_force.cli.lazy import Entry, LazyGroup
from claude_force.domain.errors import ClaudeForceError

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED: Final = 130
_UNEXPECTED: Final = 1

_COMMANDS: Final = {
    "run": Entry(
        "claude_force.cli.run:run", "Run an agent, a workflow, or one agent over many inputs."
    ),
    "plan": Entry(
        "claude_force.cli.plan:plan", "Forecast a run of a workflow: calls, tokens, dollars, time."
    ),
    "workflow": Entry("claude_force.cli.workflow:workflow", "List, show and check workflows."),
    "runs": Entry(
        "claude_force.cli.runs:runs", "List, show, resume, cancel and prune runs of workflows."
    ),
    "batch": Entry(
        "claude_force.cli.batch:batch",
        "Submit calls at half the price, and collect them tomorrow.",
    ),
    "agents": Entry("claude_force.cli.agents:agents", "List, show and check agents."),
    "init": Entry(
        "claude_force.cli.init:init", "Write ten agents and five workflows into .claude/."
    ),
    "cache": Entry(
        "claude_force.cli.cache:cache",
        "Look into the response cache, clear, check, export, import.",
    ),
    "metrics": Entry(
        "claude_force.cli.metrics:metrics",
        "Show what calls took and cost, trends, failures, alerts; export them.",
    ),
    "memory": Entry(
        "claude_force.cli.memory:memory",
        "List, search, show, forget and export what agents remember.",
    ),
    "dashboard": Entry(
        "claude_force.cli.dashboard:dashboard", "Show calls, costs and runs in the browser, live."
    ),
    "ctl": Entry(
        "claude_force.cli.ctl:ctl", "Show and change limits, pause and resume, while runs go on."
    ),
    "health": Entry(
        "claude_force.cli.health:health", "Show circuit breakers, last errors and limits seen."
    ),
    "config": Entry("claude_force.cli.config:config", "Show, check and migrate claude.json."),
    "simulate": Entry(
        "claude_force.cli.simulate:simulate", "Serve the built-in simulator of the API."
    ),
    "demo": Entry(
        "claude_force.cli.demo:demo", "Run a team of agents against the simulator; no key needed."
    ),
    "execute": Entry(
        "claude_force.cli.run_agent:execute", "Older name of `run agent`.", hidden=True
    ),
    "run-workflow": Entry(
        "claude_force.cli.run_workflow:workflow", "Older name of `run workflow`.", hidden=True
    ),
}

_SUMMARY: Final = """Runs teams of Claude agents that are defined in Markdown files.

Text goes to stdout, progress and costs to stderr. Exit codes: 0 done, 1 a check found something, 2 wrong command
line, 3 input that cannot be used, 4 no key or a refused one, 5 the API failed, 6 an unfinished answer, 7 partly done,
8 a spend limit, 9 a deadline, 130 interrupted."""

cli = LazyGroup("claude-force", _COMMANDS, summary=_SUMMARY)
cli.params += [
    click.Option(
        ["--log-level"],
        type=click.Choice(["debug", "info", "warning", "error"]),
        help="Log to stderr from this level on. Never a prompt, an answer or a key.",
    ),
    click.Option(
        ["--log-format"],
        type=click.Choice(["text", "json"]),
        default="text",
        help="One JSON object a line, or text.",
    ),
]
click.version_option(__version__, prog_name="claude-force")(cli)


def _start_logging(log_level: str | None, log_format: str) -> None:
    if log_level is not None or log_format == "json":
        from claude_force.cli.logs import start_logging

        start_logging(log_level or "info", log_format)


cli.callback = _start_logging


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error ends in a message, none in a traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = cli.main(args=given, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        return _INTERRUPTED
    except ClaudeForceError as error:
        return _tell(error, as_json="--json" in given)
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does; the interpreter must not complain about it either.
        sys.stdout = None
        return _UNEXPECTED
    except OSError as error:
        # Our output cannot be written, as on a full disk; what is left of it must not be tried again at the end.
        sys.stdout = None
        click.echo(f"Error: {error.filename or 'Output'}: {error.strerror or error}.", err=True)
        return _UNEXPECTED
    return code if isinstance(code, int) else 0


def _tell(error: ClaudeForceError, *, as_json: bool) -> int:
    from claude_force.agents.cleaning import clean_text
    from claude_force.cli.render import error_json, print_json
    from claude_force.domain.partial_failure import PartialFailureError

    # After a partial failure the command has printed what was finished, and each failure in its place.
    if as_json and not isinstance(error, PartialFailureError):
        print_json({"ok": False, "error": error_json(error)})
    click.echo(clean_text(f"Error: {error}"), err=True)
    return error.exit_code
