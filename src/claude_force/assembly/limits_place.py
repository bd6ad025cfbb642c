"""Where limits and breakers are shared: with the processes of this machine, or in Redis with those of others."""
# ruff: noqa: PLC0415 - Redis is imported by those who share through it

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from claude_force.resilience.shared_view import SharedState


@dataclass(frozen=True, slots=True)
class LimitsPlace:
    """Reads and changes what is shared there; every method may wait for a disk or a server.

    Raises:
        StorageError: by every method, when the database or the server cannot be used.
    """

    path: Path
    # A server goes before the file. It may have a password in it.
    redis_url: str | None = field(default=None, repr=False)

    def read(self) -> SharedState | None:
        """What is shared now; None if there is nothing yet."""
        if self.redis_url is not None:
            from claude_force.resilience.redis_view import read_redis_state

            return read_redis_state(self.redis_url)
        from claude_force.resilience.shared_view import read_state

        return read_state(self.path)

    def set_paused(self, *, paused: bool) -> None:
        """Let no further request of any process out, or let them out again."""
        if self.redis_url is not None:
            from claude_force.resilience.redis_view import change_redis_limits

            change_redis_limits(self.redis_url, paused=paused)
            return
        from claude_force.resilience.shared_view import change_limits

        change_limits(self.path, paused=paused)
