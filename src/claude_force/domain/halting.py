"""How the calls of a run learn that it was stopped, while they wait for something else."""

from __future__ import annotations

from typing import Protocol


class Halted(Protocol):
    """A call under way."""

    def wake(self, *, cut: bool) -> None:
        """The run was stopped: end whatever the call waits for; with ``cut`` a request on the wire too.

        From any thread; returns at once.
        """
        ...


class Halt(Protocol):
    """Whether the run of a call goes on. Every method may be called from any thread."""

    @property
    def stopped(self) -> bool:
        """Nothing more is sent."""
        ...

    def watch(self, call: Halted) -> None:
        """Wake ``call`` when the run is stopped; at once if it is."""
        ...

    def unwatch(self, call: Halted) -> None:
        """The call has ended."""
        ...

    def consider(self, error: Exception) -> None:
        """A call has ended in this `CallError`; the run is stopped if no other call can succeed."""
        ...

    def refusal(self, *, sent: bool) -> Exception:
        """A new `CallError` that says why the call ended without an answer; only once the run is stopped."""
        ...
