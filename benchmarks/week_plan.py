"""What is asked in the week of ``week.py``, drawn from a seed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from claude_force import AgentCall
    from claude_force.agents.attachments import Attachment

DAYS, SESSIONS, SESSION_CALLS, NIGHT_CALLS, HARD_CALLS = 5, 4, 12, 40, 4
FILES = 60
REPEATED, EDITED = 0.3, 0.2
WORDS = ("order", "total", "price", "retry", "user", "limit", "cache", "line", "batch", "parse")


@dataclass(frozen=True, slots=True)
class Question:
    """What one call asks: an agent about a version of a file."""

    agent: str
    task: str
    file: int
    version: int


@dataclass(slots=True)
class Week:
    """The questions of a week, drawn from a seed."""

    agents: list[str]
    draw: random.Random
    guide: Attachment
    versions: list[int] = field(default_factory=lambda: [0] * FILES)
    counts: Counter[str] = field(default_factory=Counter)
    _asked: dict[str, list[Question]] = field(default_factory=dict)

    def questions(self, slot: str, agent: str, count: int) -> list[Question]:
        """So many questions of one kind of session: repeated, about an edited file, or new."""
        earlier = list(self._asked.setdefault(slot, []))
        asked = [self._next(slot, agent, earlier) for _ in range(count)]
        self._asked[slot].extend(asked)
        return asked

    def _next(self, slot: str, agent: str, earlier: list[Question]) -> Question:
        kind = self._kind() if earlier else "new"
        self.counts[kind] += 1
        if kind == "new":
            task = f"Question {self.counts[kind]} of {slot}."
            return Question(agent, task, self.draw.randrange(FILES), 0)
        found = earlier.pop(self.draw.randrange(len(earlier)))
        if kind == "repeated":
            return found
        self.versions[found.file] += 1
        return replace(found, version=self.versions[found.file])

    def _kind(self) -> str:
        """The kind of which there are too few so far; the first session can repeat nothing."""
        so_far = self.counts.total() + 1
        if self.counts["repeated"] < REPEATED * so_far:
            return "repeated"
        return "edited" if self.counts["edited"] < EDITED * so_far else "new"


def file_text(number: int, version: int) -> str:
    """A file of 300 to 1,500 tokens, edited in one line."""
    draw = random.Random(number)
    lines = [
        f"{draw.choice(WORDS)}_{draw.randrange(99)} = {draw.choice(WORDS)}({draw.randrange(999)})"
        for _ in range(draw.randrange(30, 150))
    ]
    if version:
        lines[version % len(lines)] = f"edited = {version}"
    return "\n".join(lines) + "\n"


def guide(lines: int) -> Attachment:
    from claude_force.agents.attachments import Attachment

    rule = "A name says what a thing is for, and a unit stands in it."
    return Attachment("conventions.md", "".join(f"{n}. {rule}\n" for n in range(lines)))


def call_of(question: Question, shared: Attachment, *, model: str | None = None) -> AgentCall:
    from claude_force import AgentCall
    from claude_force.agents.attachments import Attachment

    return AgentCall(
        agent_name=question.agent,
        task=question.task,
        files=(
            shared,
            Attachment(f"src/part_{question.file}.py", file_text(question.file, question.version)),
        ),
        model=model,
        fallback=() if model is None else ("claude-sonnet-5-5",),
    )


@dataclass(frozen=True, slots=True)
class Part:
    """What is asked at one time, and in which way."""

    kind: Literal["session", "hard", "night"]
    # From the beginning of the week.
    hours: float
    calls: list[AgentCall]
    # Places of the calls whose model is overloaded when they come.
    overloaded: frozenset[int] = frozenset()


def parts_of(week: Week) -> list[Part]:
    """Four sessions a day by one agent each, a few hard questions for a dear model, and a map at night."""
    parts: list[Part] = []
    known: set[Question] = set()
    for day in range(DAYS):
        for session in range(SESSIONS):
            agent = week.agents[(day + session) % (len(week.agents) - 1)]
            questions = week.questions(agent, agent, SESSION_CALLS)
            parts.append(
                Part(
                    "session",
                    24.0 * day + 2 * session,
                    [call_of(one, week.guide) for one in questions],
                )
            )
        hard = week.questions("hard", week.agents[0], HARD_CALLS)
        # Every second of those that nobody has asked yet: another one is in the cache.
        fresh = [place for place, one in enumerate(hard) if one not in known]
        known.update(hard)
        calls = [call_of(one, week.guide, model="claude-opus-5-5") for one in hard]
        parts.append(Part("hard", 24.0 * day + 8, calls, frozenset(fresh[1::2])))
        night = week.questions("night", week.agents[-1], NIGHT_CALLS)
        parts.append(Part("night", 24.0 * day + 14, [call_of(one, week.guide) for one in night]))
    return parts


def definitions(folder: Path) -> list[tuple[str, str]]:
    texts = ((path.stem, path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.md")))
    return [(name, text) for name, text in texts if text.startswith("---")]


def chosen_agents(folder: Path, draw: random.Random, target: Path) -> list[str]:
    """Six definitions of a folder, copied; the last one works at night."""
    picked = draw.sample(definitions(folder), 6)
    for name, text in picked:
        (target / f"{name}.md").write_text(text, encoding="utf-8")
    return [name for name, _ in picked]
