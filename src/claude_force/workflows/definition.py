"""A workflow as values: a graph of steps, each one or several calls of one agent."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from claude_force.agents.calls import MAX_CONTINUATIONS
from claude_force.domain.errors import InputError

if TYPE_CHECKING:
    from decimal import Decimal

    from claude_force.domain.messages import Effort

OnError = Literal["fail", "skip", "continue"]

ON_ERROR: Final = ("fail", "skip", "continue")
# More rounds than this are a program, not a loop of questions.
MAX_ROUNDS: Final = 20
MAX_LITERAL_ITEMS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ForEach:
    """What a step fans out over; exactly one of the sources is set."""

    # JSON values that stand in the definition.
    items: tuple[object, ...] | None = None
    # A text file of the project; each line that is not blank is an item.
    lines: str | None = None
    # A step before it, whose answer is a JSON list, or an object that holds one under ``key``.
    step: str | None = None
    key: str | None = None
    # The files of the run; each item is given its own file and no other.
    files: bool = False

    def to_json(self) -> object:
        """As a definition has it."""
        if self.items is not None:
            return list(self.items)
        if self.files:
            return {"files": True}
        if self.lines is not None:
            return {"lines": self.lines}
        return {"step": self.step} if self.key is None else {"step": self.step, "key": self.key}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a workflow. All but the first two fields are optional."""

    step_id: str
    agent_name: str
    # What the agent is asked: text, or a template. None asks it the run's task alone.
    task: str | None = None
    # Steps whose answers it gets; it starts the moment the last of them ends.
    dependencies: tuple[str, ...] = ()
    # An expression; the step is skipped where it is false.
    when: str | None = None
    # Makes a call for each item instead of one.
    for_each: ForEach | None = None
    # Items under way at the same time; None for as many as the limits allow.
    max_parallel: int | None = None
    # An expression over the answer; the step asks again until it is true, ``max_rounds`` times at most.
    repeat_until: str | None = None
    max_rounds: int | None = None
    # JSON Schema that each answer has to follow, as canonical JSON text.
    output_schema: str | None = None
    # Alias or id; None takes the agent's own, else the default model.
    model: str | None = None
    max_tokens: int | None = None
    effort: Effort | None = None
    # Deadline of each of its calls, retries included; None takes the orchestrator's.
    timeout_seconds: float | None = None
    # How often a call that failed is made again, beyond the retries within it.
    retries: int = 0
    # What its failure means for the run and for the steps behind it.
    on_error: OnError = "fail"
    # Whether it is given the files of the run. Merging answers, it needs none; over ``for_each`` files, it has its own.
    files: bool = True
    # Whether the response cache is used.
    cache: bool = True
    # Whether its calls go out in message batches, at half the price within a day; None leaves it to the workflow.
    batch: bool | None = None
    # How often an answer that was cut off at ``max_tokens`` is continued; None leaves it to the workflow.
    continue_truncated: int | None = None
    # Dollars that all its calls of one run may cost together.
    budget_usd: Decimal | None = None

    def to_dict(self) -> dict[str, Any]:
        """As a definition has it, without what is left at its default."""
        schema, for_each, budget = self.output_schema, self.for_each, self.budget_usd
        written: dict[str, Any] = {
            "task": self.task,
            "dependencies": list(self.dependencies) or None,
            "for_each": None if for_each is None else for_each.to_json(),
            "output_schema": None if schema is None else json.loads(schema),
            "retries": self.retries or None,
            "on_error": None if self.on_error == "fail" else self.on_error,
            "files": None if self.files else False,
            "cache": None if self.cache else False,
            "budget_usd": None if budget is None else str(budget),
        }
        written |= {name: getattr(self, name) for name in _PLAIN}
        kept = {name: value for name, value in written.items() if value is not None}
        return {"id": self.step_id, "agent": self.agent_name, **kept}


# Fields that a definition has as they are.
_PLAIN: Final = (
    *("when", "max_parallel", "repeat_until", "max_rounds"),
    *("model", "max_tokens", "effort", "timeout_seconds", "batch", "continue_truncated"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A graph of steps without cycles; ``steps`` keep the order of the definition."""

    name: str
    steps: tuple[Step, ...]
    description: str = ""
    # From the start of the run to its end; None for no deadline.
    timeout_seconds: float | None = None
    # For steps that say nothing of their own; see `Step`.
    batch: bool | None = None
    continue_truncated: int | None = None

    @property
    def final_steps(self) -> tuple[str, ...]:
        """Steps that no other step depends on."""
        needed = {dependency for step in self.steps for dependency in step.dependencies}
        return tuple(step.step_id for step in self.steps if step.step_id not in needed)

    def within(self, timeout_seconds: float | None) -> Workflow:
        """The same with a deadline that is no later; None changes nothing."""
        own = self.timeout_seconds
        if timeout_seconds is None or (own is not None and own <= timeout_seconds):
            return self
        return replace(self, timeout_seconds=timeout_seconds)

    def settled(
        self, *, batch: bool | None = None, continue_truncated: int | None = None
    ) -> Workflow:
        """The same with every step saying for itself how its calls go out.

        Args:
            batch: goes before what the workflow says; False also before what its steps say. A step with a deadline of
                its own goes out at once, unless it says otherwise itself.
            continue_truncated: goes before what the workflow says.

        Raises:
            InputError: ``continue_truncated`` is less than 0 or more than 20.
        """
        if continue_truncated is not None and not 0 <= continue_truncated <= MAX_CONTINUATIONS:
            raise InputError(
                f"continue_truncated is {continue_truncated!r}; it is a number from 0 to {MAX_CONTINUATIONS}."
            )
        batches = self.batch if batch is None else batch
        rounds = self.continue_truncated if continue_truncated is None else continue_truncated
        steps = tuple(
            replace(
                step,
                batch=batch is not False
                and (
                    bool(batches) and step.timeout_seconds is None
                    if step.batch is None
                    else step.batch
                ),
                continue_truncated=(rounds or 0)
                if step.continue_truncated is None
                else step.continue_truncated,
            )
            for step in self.steps
        )
        return replace(self, steps=steps, batch=batches, continue_truncated=rounds)

    def to_dict(self) -> dict[str, Any]:
        """The definition as JSON values; `parse_workflow` reads it back to an equal workflow."""
        found: dict[str, Any] = {"name": self.name}
        if self.description:
            found["description"] = self.description
        if self.timeout_seconds is not None:
            found["timeout_seconds"] = self.timeout_seconds
        if self.batch is not None:
            found["batch"] = self.batch
        if self.continue_truncated is not None:
            found["continue_truncated"] = self.continue_truncated
        return found | {"steps": [step.to_dict() for step in self.steps]}
