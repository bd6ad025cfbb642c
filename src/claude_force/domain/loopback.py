"""Names of this machine, for servers that answer nobody else."""

from __future__ import annotations

from typing import Final

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def own_hosts(port: int) -> frozenset[str]:
    """What the Host header of a request to this machine says.

    Any other comes from a page that has pointed a name of its own at this machine (DNS rebinding).
    """
    return frozenset(f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in LOOPBACK)
