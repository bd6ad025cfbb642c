"""Ctrl-C: once finishes what is in flight within a grace time, twice stops at once."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import click

from claude_force.cli.stderr import tell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from claude_force.orchestrator import AsyncAgentOrchestrator

GRACE_SECONDS: Final = 10.0


class Interruption:
    """Whether the user has pressed Ctrl-C, and how often."""

    def __init__(self) -> None:
        self.count = 0


@asynccontextmanager
async def interruptible(force: AsyncAgentOrchestrator) -> AsyncIterator[Interruption]:
    """Let the block go on after a first Ctrl-C, with nothing more being sent, and cancel it after a second.

    Raises:
        click.Abort: the block was cancelled by the second one, or by the end of the grace time.
    """
    interruption = Interruption()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    end: list[asyncio.TimerHandle] = []

    def on_interrupt() -> None:
        interruption.count += 1
        if interruption.count > 1:
            task.cancel()
            return
        tell(
            f"\nInterrupted: nothing more is sent; waiting up to {GRACE_SECONDS:.0f} s for what is in flight. "
            "Ctrl-C again stops at once."
        )
        force.stop()
        end.append(loop.call_later(GRACE_SECONDS, task.cancel))

    loop.add_signal_handler(signal.SIGINT, on_interrupt)
    try:
        yield interruption
    except asyncio.CancelledError:
        if interruption.count:
            raise click.Abort from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        for timer in end:
            timer.cancel()
