"""Tasks on disk: signed, bounded, shared by processes, and no answer's business when they are broken."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.semantic.conftest import OTHER, QUESTION, SAME

from claude_force.cache.entries import CacheEntry, EntrySigner
from claude_force.cache.fingerprint import CacheKey
from claude_force.cache.memory_tier import MemoryTier
from claude_force.cache.policy import Lifetimes
from claude_force.cache.semantic.embedder import own_embedder
from claude_force.cache.semantic.similar_tasks import Question, SimilarTasks
from claude_force.cache.semantic.task_tier import Mark, TaskTier, open_task_tier
from claude_force.cache.store import CacheStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.semantic.conftest import Ask, TaskFile

LIFETIMES = Lifetimes(ttl_seconds=3600)
SCOPE = CacheKey("5" * 32)
ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from tests.semantic.test_stored_tasks import Opened, store_of
folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
opened = Opened(folder, store_of())
for number in range(first, first + count):
    opened.remember(number, f"What is the colour of door {number}?")
opened.close()
"""


def open_tier(folder: Path, *, max_answer_bytes: int = 100 * 1_048_576) -> TaskTier:
    return open_task_tier(
        folder, lifetimes=LIFETIMES, max_answer_bytes=max_answer_bytes, secret="secret"
    )


def store_of(*numbers: int) -> CacheStore:
    store = CacheStore(
        memory=MemoryTier(10_000_000), lower=(), signer=EntrySigner(b"x"), lifetimes=LIFETIMES
    )
    for number in numbers:
        store.put(
            CacheEntry(
                key=CacheKey(f"{number:032x}"),
                agent_name="alpha",
                model="m",
                created_at=time.time(),
                body=b"answer",
            )
        )
    return store


def question(number: int, task: str, *, agent: str = "alpha", scope: CacheKey = SCOPE) -> Question:
    return Question(
        scope=scope,
        answer_key=CacheKey(f"{number:032x}"),
        agent_name=agent,
        model="m",
        task=task,
    )


class Opened:
    """`SimilarTasks` over a folder, for one loop after the other."""

    def __init__(self, folder: Path, store: CacheStore, embedder: Any = None) -> None:
        self.tier = open_tier(folder)
        self.similar = SimilarTasks(self.tier, store, embedder or own_embedder())

    def remember(self, number: int, task: str, **question_of: Any) -> None:
        self.similar.remember(question(number, task, **question_of), time.time())

    def find(self, task: str, threshold: float = 0.85, **question_of: Any) -> str | None:
        found = asyncio.run(self.similar.find(question(-1, task, **question_of), threshold))
        return None if found is None else found.task

    def close(self) -> None:
        self.similar.close()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    made: list[Opened] = []

    def make(*numbers: int, embedder: Any = None) -> Opened:
        made.append(Opened(tmp_path, store_of(*numbers), embedder))
        return made[-1]

    yield make
    for each in made:
        each.close()


# ---- signatures


def test_an_edited_task_is_never_served(ask: Ask, tasks: TaskFile, paid: Callable[[], int]) -> None:
    ask(QUESTION)
    (record,) = tasks.records()
    edited = record.replace(b"password", b"username")
    assert edited != record
    tasks.execute("UPDATE bodies SET record = ?", edited)
    assert ask(OTHER).cached is None
    assert ask(SAME).cached is None
    assert paid() == 3


def test_an_answer_that_was_put_among_the_tasks_is_passed_over(
    ask: Ask, cache_dir: Path, tasks: TaskFile, paid: Callable[[], int]
) -> None:
    ask(QUESTION)
    shutil.copy(cache_dir / "responses.db", cache_dir / "semantic.db")
    assert ask(SAME).cached is None
    assert paid() == 2


def test_tasks_of_another_secret_are_not_seen(ask: Ask, paid: Callable[[], int]) -> None:
    ask(QUESTION, force={"cache_secret": "one"})
    assert ask(SAME, force={"cache_secret": "two"}).cached is None
    hit = ask(SAME, force={"cache_secret": "one"}).cached
    assert hit is not None
    assert hit.tier == "semantic"
    assert paid() == 2


def test_a_file_of_somebody_else_costs_hits_and_stays_as_it_is(
    ask: Ask, cache_dir: Path, paid: Callable[[], int]
) -> None:
    cache_dir.mkdir()
    (cache_dir / "semantic.db").write_text("a letter to my aunt")
    ask(QUESTION)
    assert ask(SAME).cached is None
    assert paid() == 2
    assert (cache_dir / "semantic.db").read_text() == "a letter to my aunt"


def test_the_file_is_for_its_owner_alone(ask: Ask, cache_dir: Path) -> None:
    ask(QUESTION)
    assert (cache_dir / "semantic.db").stat().st_mode & 0o777 == 0o600


# ---- several objects and processes


def test_a_task_is_found_at_once_and_after_a_restart(opened: Callable[..., Opened]) -> None:
    first = opened(1)
    first.remember(1, QUESTION)
    assert first.find(SAME) == QUESTION
    first.close()
    assert opened(1).find(SAME) == QUESTION


def test_what_others_add_is_found_without_a_restart(opened: Callable[..., Opened]) -> None:
    waiting, writing = opened(1, 2), opened(1, 2)
    assert waiting.find(SAME) is None
    writing.remember(1, QUESTION)
    writing.remember(2, OTHER)
    assert writing.find(SAME) == QUESTION
    writing.tier.flush()
    assert waiting.find(SAME) == QUESTION
    assert waiting.find("How can I reset my username?") == OTHER


def test_what_came_after_a_clearing_is_found_by_those_who_read_before_it(
    opened: Callable[..., Opened],
) -> None:
    waiting, writing = opened(*range(10)), opened(*range(10))
    for number in range(3):
        writing.remember(number, f"What is the colour of door {number}?")
    writing.find("anything")
    writing.tier.flush()
    assert waiting.find("What's the colour of door 2?") == "What is the colour of door 2?"
    assert writing.tier.clear() == 3
    for number in range(3, 9):
        writing.remember(number, f"What is the colour of door {number}?")
    writing.find("anything")
    writing.tier.flush()
    for number in range(3, 9):
        task = f"colour of door {number}?"
        assert waiting.find(f"What's the {task}") == f"What is the {task}"


def test_processes_write_beside_each_other(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path), str(first), "25"], cwd=ROOT)
        for first in (0, 25, 50)
    ]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    reading = opened(*range(75))
    for number in range(75):
        task = f"colour of door {number}?"
        assert reading.find(f"What's the {task}") == f"What is the {task}"


# ---- who is compared with whom


def test_agents_and_scopes_are_apart(opened: Callable[..., Opened]) -> None:
    similar = opened(1)
    similar.remember(1, QUESTION)
    assert similar.find(SAME, agent="beta") is None
    assert similar.find(SAME, scope=CacheKey("6" * 32)) is None
    assert similar.find(SAME) == QUESTION


def test_the_most_similar_task_that_the_guard_lets_pass_answers(
    opened: Callable[..., Opened],
) -> None:
    similar = opened(1, 2, 3)
    similar.remember(1, "How do I not reset my password?")
    similar.remember(2, "How to reset my password")
    similar.remember(3, QUESTION)
    assert similar.find(SAME) == QUESTION


def test_numbers_of_the_same_digits_do_not_hide_each_other(opened: Callable[..., Opened]) -> None:
    numbers = ["".join(digits) for digits in permutations("12345")]
    similar = opened(*range(len(numbers)))
    for place, number in enumerate(numbers):
        similar.remember(place, f"What is the state of order {number}?")
    for number in numbers[::17]:
        found = similar.find(f"What's the state of order {number}?")
        assert found == f"What is the state of order {number}?"


def test_a_task_without_an_answer_leaves_its_place_to_the_next(
    opened: Callable[..., Opened],
) -> None:
    similar = opened(2)
    similar.remember(1, QUESTION)
    similar.remember(2, "How to reset my password")
    for _ in range(2):
        assert similar.find(SAME) == "How to reset my password"


def test_vectors_of_another_embedder_are_not_compared(opened: Callable[..., Opened]) -> None:
    class Another:
        name = "another"

        def embed(self, texts: list[str]) -> Any:
            return own_embedder().embed(texts)

    first = opened(1)
    first.remember(1, QUESTION)
    first.close()
    assert opened(1, embedder=Another()).find(SAME) is None
    assert opened(1).find(SAME) == QUESTION


def test_an_embedder_that_fails_costs_the_hit_and_says_so_once(
    opened: Callable[..., Opened], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        name = "broken"

        def embed(self, texts: list[str]) -> Any:
            raise MemoryError("no room")

    similar = opened(1, embedder=Broken())
    similar.remember(1, QUESTION)
    assert similar.find(SAME) is None
    assert [record.getMessage() for record in caplog.records] == [
        "semantic cache: MemoryError: no room; similar tasks are not looked for where that happens"
    ]


# ---- bounds


def test_the_file_stays_within_a_quarter_of_what_the_answers_may_take(tmp_path: Path) -> None:
    tier = open_tier(tmp_path, max_answer_bytes=2 * 1_048_576)
    similar = SimilarTasks(tier, store_of(), own_embedder())
    for number in range(1500):
        similar.remember(question(number, f"What is the colour of door {number}?"), time.time())
    similar.close()
    taken = sum(file.stat().st_size for file in tmp_path.glob("semantic.db*"))
    assert 200_000 < taken <= 524_288


def test_of_many_tasks_the_youngest_are_read(tmp_path: Path) -> None:
    tier = open_tier(tmp_path)
    similar = SimilarTasks(tier, store_of(), own_embedder())
    for number in range(20):
        similar.remember(question(number, f"What is the colour of door {number}?"), time.time())
    asyncio.run(similar.find(question(-1, "anything"), 0.9))
    tier.flush()
    added = tier.added(Mark(), "alpha", 5)
    assert [task.task for task in added.tasks] == [
        f"What is the colour of door {number}?" for number in (19, 18, 17, 16, 15)
    ]
    assert tier.added(added.mark, "alpha", 5).tasks == ()
    similar.close()


# ---- forks

FORK = """
import os, sys
from pathlib import Path
from tests.semantic.conftest import QUESTION, SAME
from tests.semantic.test_stored_tasks import Opened, store_of
opened = Opened(Path(sys.argv[1]), store_of(1))
opened.remember(1, QUESTION)
assert opened.find(SAME) == QUESTION
opened.tier.flush()
child = os.fork()
if child == 0:
    os._exit(0 if opened.find(SAME) == QUESTION else 1)
_, status = os.waitpid(child, 0)
assert opened.find(SAME) == QUESTION
opened.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_process_finds_what_its_parent_found(tmp_path: Path) -> None:
    done = subprocess.run(
        # Threads that idle are no matter here: the child only looks, and ends.
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", FORK, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
