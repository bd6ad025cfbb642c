"""The part of the asynchronous API that is about batches for those who come back tomorrow."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from claude_force.agents.calls import AgentCall

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from claude_force.assembly.batching_submissions import SubmissionProgress, Submissions
    from claude_force.assembly.caller import Caller
    from claude_force.assembly.runtime import Runtime
    from claude_force.domain.results import AgentOutcome
    from claude_force.workflows.submissions import BatchSubmission


class BatchMethods:
    """What an orchestrator submits and collects."""

    _runtime: Runtime
    _caller: Caller

    async def submit_batch(
        self, calls: Iterable[AgentCall | tuple[str, str]], *, note: str = ""
    ) -> BatchSubmission:
        """Send calls in message batches, at half the price, and return: `collect_batch` gets the results, whenever.

        What the response cache has, or what is in a batch already, is not sent. The submission is on disk before
        anything is sent, so any process of the user can collect it. The worst case of what is sent counts as spent in the
        budgets from now on.

        Args:
            calls: what to ask; all of it is read before anything is sent.
            note: kept with the submission, for whoever comes back.

        Raises:
            InputError: a call cannot be sent as it is; then none was.
            BudgetExceededError: all of them together do not fit into a budget; nothing was sent.
            CallError: a batch was refused. What is in an earlier one is kept as a submission.
        """
        accepted = [
            one if isinstance(one, AgentCall) else AgentCall(agent_name=one[0], task=one[1])
            for one in calls
        ]
        async with self._submissions() as submissions:
            return await submissions.submit(accepted, note=note)

    async def batch_submissions(self) -> list[BatchSubmission]:
        """Everything that was submitted and is on record, the last first; asks nobody."""
        from claude_force.workflows.submissions import SubmissionStore  # noqa: PLC0415 - few need it

        store = SubmissionStore(self._runtime.state_folder)
        try:
            return await asyncio.to_thread(store.recent)
        finally:
            await asyncio.to_thread(store.close)

    async def find_submission(self, submission_id: str) -> BatchSubmission:
        """The submission of that id, of the beginning of one, or the ``last``; asks nobody.

        Raises:
            InputError: there is none such.
        """
        from claude_force.workflows.submissions import SubmissionStore  # noqa: PLC0415 - few need it

        store = SubmissionStore(self._runtime.state_folder)
        try:
            return await asyncio.to_thread(store.find, submission_id)
        finally:
            await asyncio.to_thread(store.close)

    async def batch_status(self, submission_id: str) -> SubmissionProgress:
        """Where a submission stands at the API; costs nothing.

        Args:
            submission_id: its id, the beginning of one, or ``last``; so for the methods below.

        Raises:
            InputError: there is none such.
            ConfigError: it was sent to another address.
            CallError: the API does not say.
        """
        async with self._submissions() as submissions:
            return await submissions.progress(submission_id)

    async def collect_batch(
        self,
        submission_id: str,
        *,
        wait: bool = False,
        on_look: Callable[[int], None] | None = None,
    ) -> AsyncGenerator[AgentOutcome, None]:
        """Outcomes of a submission, those that were collected before among them; ``outcome.index`` is the place in its calls.

        A result is on disk before it is handed on, and fills the response cache. Collecting again costs nothing: what
        was collected is marked as cached in the tier ``journal``.

        Args:
            submission_id: see `batch_status`.
            wait: wait for batches that go on; otherwise they are left for the next time.
            on_look: told, each time the batches were looked at, how many calls still have no result.

        Raises:
            InputError: there is none such.
            ConfigError: it was sent to another address.
            CallError: the API does not say.
        """
        async with self._submissions() as submissions:
            collected = submissions.collect(submission_id, wait=wait, on_look=on_look)
            async with aclosing(collected) as outcomes:
                async for outcome in outcomes:
                    yield outcome

    async def cancel_batch(self, submission_id: str) -> SubmissionProgress:
        """Stop the batches of a submission: what is answered by now is paid and can be collected, the rest fails unpaid.

        A batch that another submission shares is stopped for that one too. Raises like `batch_status`.
        """
        async with self._submissions() as submissions:
            return await submissions.cancel(submission_id)

    def _submissions(self) -> Submissions:
        from claude_force.assembly.batching_submissions import Submissions  # noqa: PLC0415 - few need it

        return Submissions(self._runtime, self._caller)
