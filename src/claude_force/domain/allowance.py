"""What a call may still spend when an attempt of it came to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_force.domain.usage import Usage


class Allowance(Protocol):
    """The budgets behind one call. Its first attempt has its money; every further one asks."""

    def spend(self) -> None:
        """The request goes out: what is reserved may be billed from here on."""
        ...

    async def renew(self, lost: Sequence[Usage]) -> None:
        """Count what the last attempt used, and reserve the worst case of another one.

        Raises:
            BudgetExceededError: another attempt does not fit into a budget any more; what was used is counted.
        """
        ...
