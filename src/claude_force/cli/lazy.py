"""A command group that knows its commands by name and imports one when it is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command lives, and the line that help shows for it."""

    # "module:attribute".
    target: str
    summary: str
    # Left out of help: an older name of another command.
    hidden: bool = False


class LazyGroup(click.Group):
    """A group whose help needs none of its commands: the package's parts are imported by what uses them."""

    def __init__(self, name: str, entries: Mapping[str, Entry], *, summary: str) -> None:
        super().__init__(name=name, help=summary, no_args_is_help=True)
        self._entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names in the order of the table, the one in which a reader needs them."""
        return [name for name, entry in self._entries.items() if not entry.hidden]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import the command."""
        entry = self._entries.get(cmd_name)
        if entry is None:
            return None
        from importlib import import_module

        module, _, attribute = entry.target.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - the table is ours
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, and with the nearest name when there is none such."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in self._entries:
            from difflib import get_close_matches

            near = get_close_matches(name, self.list_commands(ctx), n=1)
            hint = (
                f" Did you mean {near[0]!r}?"
                if near
                else f" There are: {', '.join(self.list_commands(ctx))}."
            )
            ctx.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without importing what it names."""
        rows = [(name, self._entries[name].summary) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
