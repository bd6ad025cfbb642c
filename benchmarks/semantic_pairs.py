"""The labelled pairs: read from `semantic_pairs.txt`, and made from those by rule."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAIRS_FILE = Path(__file__).with_suffix(".txt")


@dataclass(frozen=True, slots=True)
class Group:
    """Tasks that ask the same, and tasks that look like them and ask something else."""

    held_out: bool
    same: tuple[str, ...]
    # Kind and task.
    other: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two tasks, and whether one answer does for both."""

    asked: str
    answered: str
    same: bool
    # paraphrase, or what is different.
    kind: str
    held_out: bool


def read_groups(path: Path = PAIRS_FILE) -> list[Group]:
    """The groups of a file: lines that begin with Q, A or H, = and !, groups apart by empty lines, # for comments."""
    text = "\n".join(
        line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")
    )
    groups = []
    for number, block in enumerate(part for part in text.split("\n\n") if part.strip()):
        same, other = [], []
        for line in block.strip().splitlines():
            mark, task = line[0], line[1:].strip()
            if mark in "QAH=":
                same.append(task)
            elif mark == "!":
                kind, _, task = task.partition(" | ")
                other.append((kind, task))
            else:
                message = f"{path}: {line!r} begins with none of Q A H = ! #"
                raise ValueError(message)
        kind = block.lstrip()[0]
        held_out = kind == "H" or (kind == "Q" and number % 2 == 1)
        groups.append(Group(held_out, tuple(same), tuple(other)))
    return groups


def pairs_of(groups: list[Group]) -> Iterator[Pair]:
    """Every two tasks of a group, every task with one of its rule-made near misses, and questions across groups."""
    for group in groups:
        for asked, answered in combinations(group.same, 2):
            yield Pair(asked, answered, True, "paraphrase", group.held_out)
        for (kind, asked), answered in product(group.other, group.same):
            yield Pair(asked, answered, False, kind, group.held_out)
        for answered in group.same:
            for kind, asked in _near_misses(answered):
                if asked not in group.same:
                    yield Pair(asked, answered, False, f"{kind}, by rule", group.held_out)
    for one, two in combinations(groups, 2):
        if one.held_out == two.held_out:
            yield Pair(one.same[0], two.same[0], False, "another group", one.held_out)


def _near_misses(task: str) -> Iterator[tuple[str, str]]:
    for kind, make in _RULES:
        made = make(task)
        if made is not None and made != task:
            yield kind, made


def _renumber(task: str) -> str | None:
    return re.sub(r"\d+", lambda number: str(int(number[0]) + 1), task, count=1)


def _reverse(task: str) -> str | None:
    """What is from one to the other is from the other to the one."""
    place = r"((?:(?:a|an|the|my) )?[\w-]+)"
    return re.sub(rf"from {place} to {place}", r"from \2 to \1", task)


def _negate(task: str) -> str | None:
    found = re.match(
        r"((?:How |When |Why |What |Who |Which \w+ )?(?:do|does|can|may|should|is|are|will|did)(?: I| you|) )",
        task,
        re.IGNORECASE,
    )
    return f"{found[1]}not {task[found.end() :]}" if found else None


def _requote(task: str) -> str | None:
    return re.sub(r'"(\w+)', r'"un\1', task, count=1) if '"' in task else None


_RULES: tuple[tuple[str, Callable[[str], str | None]], ...] = (
    ("number", _renumber),
    ("reversed", _reverse),
    ("negated", _negate),
    ("quoted", _requote),
)
