"""The place in a Redis server where processes of several machines meet, and this process in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from claude_force.storage.redis_link import Patience, RedisLink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from claude_force.storage.redis_link import RedisClient

T = TypeVar("T")

# The braces keep all keys on one node of a cluster, where a script has to find them. The number is that of their form.
PREFIX: Final = "claude-force:{shared}:1:"
ID: Final = PREFIX + "id"
SETTINGS: Final = PREFIX + "settings"
LEASES: Final = PREFIX + "leases"
DEMANDS: Final = PREFIX + "demands"
HOLDINGS: Final = PREFIX + "holdings"
POOLS: Final = PREFIX + "pools"
PAUSES: Final = PREFIX + "pauses"
ERRORS: Final = PREFIX + "errors"
BREAKERS: Final = PREFIX + "breakers"

# Nothing that a call waits for takes longer; a slow server is better than none, since a machine alone knows less.
LIMITS_PATIENCE: Final = Patience(
    timeout_seconds=0.5,
    slow_seconds=float("inf"),
    first_pause_seconds=0.5,
    longest_pause_seconds=4.0,
    meanwhile="each machine goes on with its part of the limits until the server is back",
)


class RedisPlace:
    """This process among those that share a Redis server. Nothing is dialled before it is used.

    Times are those of the server, so that the clocks of machines need not agree.

    Args:
        link: to the server.
        machine: what the processes of one machine have in common.
        host: the machine's name, for people.
        server_clock: seconds since the epoch in place of the server's own clock.
    """

    def __init__(
        self,
        link: RedisLink,
        *,
        machine: str,
        host: str,
        server_clock: Callable[[], float] | None = None,
    ) -> None:
        self.link = link
        self.machine = machine
        self.host = host
        self.server_clock = server_clock
        self.lease_id = f"{os.getpid()}-{os.urandom(6).hex()}"
        self._scripts: dict[str, Any] = {}

    def run(self, client: RedisClient, name: str, keys: Sequence[str], *arguments: str) -> Any:  # noqa: ANN401 - whatever the script returns
        """Run a script that lies beside this module; the server keeps it, and is told again when it has forgotten."""
        script = self._scripts.get(name)
        if script is None:
            text = Path(__file__).with_name(name).read_text("utf-8")
            script = self._scripts[name] = client.register_script(text)
        return script(keys=keys, args=arguments, client=client)

    def call(self, work: Callable[[RedisClient], T]) -> T | None:
        """See `RedisLink.call`."""
        return self.link.call(work)

    def close(self) -> None:
        """Close the connections; afterwards the server counts as gone."""
        self.link.close()


def open_place(url: str, *, machine: str, host: str) -> RedisPlace:
    """The place at ``url``.

    Raises:
        ConfigError: the URL has a form that is not known.
        OptionalDependencyError: the library is not installed.
    """
    link = RedisLink(url, patience=LIMITS_PATIENCE)
    link.check()
    return RedisPlace(link, machine=machine, host=host)
