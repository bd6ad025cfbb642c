"""Lines that come at any moment of a run, on a terminal that may show a table."""

from __future__ import annotations

import sys


def tell(line: str) -> None:
    """Write a line to what stderr is at this moment.

    While a table is drawn, that is a stand-in which puts the line above it. `click.echo` would look for the terminal
    behind the stand-in, and the next frame would be drawn over the line.
    """
    stderr = sys.stderr
    stderr.write(f"{line}\n")
    stderr.flush()
