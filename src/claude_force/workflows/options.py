"""What may be said of a run of a workflow, beside the workflow and its task."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from claude_force.agents.attachments import Attachment
    from claude_force.domain.events import EventListener
    from claude_force.domain.messages import CacheUse
    from claude_force.workflows.definition import Workflow

# A name, the path of a YAML or JSON file, or a definition: a list of agent names, a mapping with ``steps``, a `Workflow`.
WorkflowLike: TypeAlias = "str | Workflow | Mapping[str, object] | Sequence[str]"


class PlanOptions(TypedDict, total=False):
    """What a plan and a run have in common.

    Attributes:
        files: given to every step; none without it.
        cache: what the run wants of the response cache; `USE_CACHE` without it.
        batch: True sends the calls of every step that allows it in message batches, False those of none; None does as
            the workflow says.
        continue_truncated: how often an answer that was cut off at ``max_tokens`` is continued, for steps that do not
            say; None does as the workflow says.
        use_memory: whether the agents recall what they did in this project before, and remember this; None leaves it to
            the `memory:` line of their files.
    """

    files: tuple[Attachment, ...]
    cache: CacheUse
    use_memory: bool | None
    batch: bool | None
    continue_truncated: int | None


class WorkflowOptions(PlanOptions, total=False):
    """What may be said of a run.

    Attributes:
        sequential: one step at a time; the results are the same.
        timeout_seconds: deadline of the whole run; the workflow's own holds too.
        journal: keep every answer on disk, so that the run can be resumed. None keeps it unless ``client`` is a double
            that shares nothing (no ``origin``) and no ``state_dir`` was given.
        file_patterns: patterns of the files, and the folder that they are meant from, for a resumed run to read them
            again; without them it takes the texts as they are now.
        on_event: told of this run's steps and calls.
    """

    sequential: bool
    timeout_seconds: float | None
    journal: bool | None
    file_patterns: tuple[Sequence[str], str | Path] | None
    on_event: EventListener | None


class ResumeOptions(TypedDict, total=False):
    """What may be said of a run that goes on.

    Attributes:
        files: as they are now; None takes them as they were kept.
        sequential: one step at a time.
        cache: what the run wants of the response cache.
        use_memory: as for a run that begins; it is not kept with the run.
        batch: None does as the run was begun.
        continue_truncated: None does as the run was begun.
        on_event: told of this run's steps and calls.
    """

    files: tuple[Attachment, ...] | None
    sequential: bool
    cache: CacheUse
    use_memory: bool | None
    batch: bool | None
    continue_truncated: int | None
    on_event: EventListener | None


def refuse_unknown(given: Mapping[str, object], known: type) -> None:
    """Pass options that ``known``, a `TypedDict`, has.

    Raises:
        TypeError: as for any other argument that a function does not take.
    """
    names = known.__annotations__
    for name in given:
        if name not in names:
            raise TypeError(f"unexpected keyword argument {name!r}; there are: {', '.join(names)}")
