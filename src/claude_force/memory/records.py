"""What is remembered, and what is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from datetime import datetime

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """A task that was done, before it is redacted and shortened."""

    # Folder of the project, and name of the agent: agents of other projects do not share memories.
    project: str
    agent_name: str
    task: str
    # The complete answer.
    answer: str
    model: str
    # Content key of the request without memory: a question that is asked again takes the place of its older self.
    key: str
    # Seconds since the epoch.
    recorded_at: float
    # The answer was not paid for this time, so it says nothing new of a question that is remembered already.
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRecord:
    """One task that an agent did, as it is kept: redacted and shortened."""

    id: int
    project: str
    agent_name: str
    recorded_at: datetime
    task: str
    # The answer; its beginning and end where it was long.
    outcome: str
    # What is recalled of the answer: its sentences that say most.
    digest: str
    # The model that answered.
    model: str


@dataclass(frozen=True, slots=True)
class Recollection:
    """A record that fits a question."""

    record: MemoryRecord
    # How well, from 0 to 1: relevance by words (BM25), blended with recency.
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How a result came about."""

    # It was in the query cache: nobody has written since it was read.
    hit: bool
    # Of the store; changes with every write of any process. None while there is no store.
    version: int | None
    seconds: float
    # What was read, such as "37 candidates of 12,040 records".
    read: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryAnswer(Generic[T]):
    """The answer to a question to the store."""

    value: T
    explanation: Explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeSize:
    """How much one agent remembers of one project."""

    project: str
    agent_name: str
    records: int
    last_at: datetime
