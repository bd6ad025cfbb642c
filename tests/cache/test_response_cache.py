"""The public cache, used on its own."""

from __future__ import annotations

import os
import threading
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from claude_force.cache.response_cache import ResponseCache
from claude_force.domain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODEL = "claude-sonnet-5-5"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def open_cache(tmp_path: Path) -> Iterator[Callable[..., ResponseCache]]:
    opened: list[ResponseCache] = []

    def make(**arguments: object) -> ResponseCache:
        cache = ResponseCache(**{"cache_dir": tmp_path / "cache", **arguments})  # type: ignore[arg-type] # by name
        opened.append(cache)
        return cache

    yield make
    for cache in opened:
        cache.close()


def test_an_answer_is_found_with_what_it_cost(open_cache: Callable[..., ResponseCache]) -> None:
    clock = Clock()
    cache = open_cache(wall_clock=clock)
    assert cache.get("writer", "Say hello", MODEL) is None
    cache.set("writer", "Say hello", MODEL, "Hello.", 10, 3, 0.0123)
    clock.now += 5
    assert cache.get("writer", "Say hello", MODEL) == {
        "response": "Hello.",
        "input_tokens": 10,
        "output_tokens": 3,
        "estimated_cost": 0.0123,
        "cached": True,
        "cache_age_seconds": 5.0,
    }


def test_an_answer_is_the_same_after_a_restart(open_cache: Callable[..., ResponseCache]) -> None:
    clock = Clock()
    texts = ["Hello.", "grüß dich — 你好", "a lone \ud800 surrogate", "x" * 100_000]
    costs: list[float | Decimal] = [0.1, Decimal("0.1000"), 1e-9, 0]
    first = open_cache(wall_clock=clock)
    for index, (text, cost) in enumerate(zip(texts, costs, strict=True)):
        first.set("writer", f"task {index}", MODEL, text, index, 3, cost)
    before = [first.get("writer", f"task {index}", MODEL) for index in range(4)]
    first.close()
    second = open_cache(wall_clock=clock)
    after = [second.get("writer", f"task {index}", MODEL) for index in range(4)]
    assert after == before
    assert [hit["response"] for hit in after if hit] == texts
    assert isinstance(after[1], dict)
    assert isinstance(after[1]["estimated_cost"], Decimal)


def test_another_cache_on_the_folder_finds_it_at_once(
    open_cache: Callable[..., ResponseCache],
) -> None:
    open_cache().set("writer", "task", MODEL, "Hello.", 1, 1, 0.0)
    hit = open_cache().get("writer", "task", MODEL)
    assert hit is not None
    assert hit["response"] == "Hello."


def test_any_part_of_the_question_makes_another_answer(
    open_cache: Callable[..., ResponseCache],
) -> None:
    cache = open_cache()
    cache.set("a:b", "c", MODEL, "Hello.", 1, 1, 0.0, style="short", limit=1)
    questions: list[tuple[tuple[str, str, str], dict[str, object]]] = [
        (("a", "b:c", MODEL), {"style": "short", "limit": 1}),
        (("a:b", "c", "claude-opus-5-5"), {"style": "short", "limit": 1}),
        (("a:b", "c", MODEL), {}),
        (("a:b", "c", MODEL), {"style": "short"}),
        (("a:b", "c", MODEL), {"style": "long", "limit": 1}),
        (("a:b", "c", MODEL), {"style": "short", "limit": True}),
        (("a:b", "c", MODEL), {"style": "short", "limit": 1.0}),
        (("a:b", "c", MODEL), {"style": "short", "limit": "1"}),
    ]
    found = [cache.get(*call, **context) for call, context in questions]  # type: ignore[arg-type] # a context has no self
    assert found == [None] * 8
    assert cache.get("a:b", "c", MODEL, limit=1, style="short") is not None


def test_statistics_are_those_of_the_plan(open_cache: Callable[..., ResponseCache]) -> None:
    cache = open_cache()
    assert cache.get_stats()["hit_rate"] == "0.0%"
    cache.set("writer", "task", MODEL, "Hello.", 1, 1, 0.0)
    cache.get("writer", "task", MODEL)
    cache.get("writer", "other", MODEL)
    stats = cache.get_stats()
    assert stats.pop("size_mb") > 0  # type: ignore[misc] # a required key
    assert stats == {
        "enabled": True,
        "hits": 1,
        "misses": 1,
        "hit_rate": "50.0%",
        "evictions": 0,
        "integrity_failures": 0,
        "entries": 1,
    }


def test_an_answer_ends_with_its_time_to_live(open_cache: Callable[..., ResponseCache]) -> None:
    clock = Clock()
    cache = open_cache(ttl_hours=1, wall_clock=clock)
    cache.set("writer", "task", MODEL, "Hello.", 1, 1, 0.0)
    clock.now += 3599
    assert cache.get("writer", "task", MODEL) is not None
    clock.now += 1
    assert cache.get("writer", "task", MODEL) is None
    cache.close()
    assert open_cache(ttl_hours=1, wall_clock=clock).get("writer", "task", MODEL) is None


def test_a_later_answer_replaces_the_earlier_one(open_cache: Callable[..., ResponseCache]) -> None:
    cache = open_cache()
    for text in ("first", "second"):
        cache.set("writer", "task", MODEL, text, 1, 1, 0.0)
    hit = cache.get("writer", "task", MODEL)
    assert hit is not None
    assert hit["response"] == "second"
    assert cache.get_stats()["entries"] == 1


def test_a_disabled_cache_keeps_nothing_and_makes_nothing(
    open_cache: Callable[..., ResponseCache], tmp_path: Path
) -> None:
    cache = open_cache(enabled=False)
    cache.set("writer", "task", MODEL, "Hello.", 1, 1, 0.0)
    assert cache.get("writer", "task", MODEL) is None
    assert cache.get_stats()["enabled"] is False
    cache.close()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("response", ["", "  \n"])
def test_an_empty_answer_is_not_kept(
    open_cache: Callable[..., ResponseCache], response: str
) -> None:
    cache = open_cache()
    cache.set("writer", "task", MODEL, response, 1, 1, 0.0)
    assert cache.get("writer", "task", MODEL) is None


def test_an_excluded_agent_is_neither_kept_nor_served(
    open_cache: Callable[..., ResponseCache],
) -> None:
    before = open_cache()
    before.set("writer", "task", MODEL, "Hello.", 1, 1, 0.0)
    cache = open_cache(exclude_agents=["writer"])
    assert cache.get("writer", "task", MODEL) is None
    cache.set("writer", "new", MODEL, "Hello.", 1, 1, 0.0)
    assert before.get("writer", "new", MODEL) is None


def test_a_hit_belongs_to_its_caller(open_cache: Callable[..., ResponseCache]) -> None:
    cache = open_cache()
    cache.set("writer", "task", MODEL, "Hello.", 1, 1, 0.0)
    first = cache.get("writer", "task", MODEL)
    assert first is not None
    first["response"] = "changed by its caller"
    second = cache.get("writer", "task", MODEL)
    assert second is not None
    assert second["response"] == "Hello."


def test_clearing_leaves_nothing_and_can_be_by_agent(
    open_cache: Callable[..., ResponseCache],
) -> None:
    cache = open_cache()
    cache.set("writer", "task", MODEL, "Hello.", 1, 1, 0.0)
    cache.set("reader", "task", MODEL, "Hello.", 1, 1, 0.0)
    assert cache.clear(agent_name="reader") == 1
    assert cache.get("reader", "task", MODEL) is None
    assert cache.get("writer", "task", MODEL) is not None
    cache.clear()
    assert cache.get("writer", "task", MODEL) is None
    assert cache.get_stats()["entries"] == 0


def test_clearing_deletes_no_file_that_is_not_ours(
    open_cache: Callable[..., ResponseCache], tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    (folder / "old.json").write_text("{}")
    cache = open_cache()
    cache.set("writer", "task", MODEL, "Hello.", 1, 1, 0.0)
    cache.clear()
    cache.close()
    assert (folder / "thesis.txt").read_text() == "years of work"
    assert (folder / "old.json").read_text() == "{}"


def test_a_secret_that_is_set_makes_no_file_and_another_one_misses(
    open_cache: Callable[..., ResponseCache], tmp_path: Path
) -> None:
    cache = open_cache(cache_secret="mine")
    cache.set("writer", "task", MODEL, "Hello.", 1, 1, 0.0)
    cache.close()
    assert not (tmp_path / "cache" / "secret").exists()
    stranger = open_cache(cache_secret="other")
    assert stranger.get("writer", "task", MODEL) is None
    assert stranger.get_stats()["integrity_failures"] == 1
    assert open_cache(cache_secret="mine").get("writer", "task", MODEL) is not None


def test_tampering_elsewhere_does_not_change_what_is_hot_here(
    open_cache: Callable[..., ResponseCache], tmp_path: Path
) -> None:
    cache = open_cache()
    cache.set("writer", "task", MODEL, "Hello.", 1, 1, 0.0)
    cache.flush()
    database = tmp_path / "cache" / "responses.db"
    for path in (database, database.with_name("responses.db-wal")):
        path.write_bytes(path.read_bytes().replace(b"Hello.", b"Howdy."))
    hit = cache.get("writer", "task", MODEL)
    assert hit is not None
    assert hit["response"] == "Hello."
    found = open_cache().get("writer", "task", MODEL)
    assert found is None or found["response"] == "Hello."


def test_the_bound_holds_and_evictions_are_counted(
    open_cache: Callable[..., ResponseCache], tmp_path: Path
) -> None:
    cache = open_cache(max_size_mb=1)
    for index in range(60):
        cache.set("writer", f"task {index}", MODEL, "x" * 40_000, 1, 1, 0.0)
    stats = cache.get_stats()
    assert 0 < stats["size_mb"] <= 1
    assert stats["evictions"] > 30
    assert stats["entries"] + stats["evictions"] == 60
    on_disk = sum(
        (tmp_path / "cache" / name).stat().st_size for name in ("responses.db", "responses.db-wal")
    )
    assert on_disk <= 1024 * 1024
    assert cache.get("writer", "task 59", MODEL) is not None


def test_eight_threads_get_right_answers_and_right_counts(
    open_cache: Callable[..., ResponseCache],
) -> None:
    cache = open_cache()
    wrong: list[object] = []

    def work(seed: int) -> None:
        for index in range(100):
            number = (seed * 17 + index) % 50
            cache.set("writer", f"task {number}", MODEL, f"answer {number}", number, 1, 0.0)
            hit = cache.get("writer", f"task {number}", MODEL)
            if hit is None or hit["response"] != f"answer {number}":
                wrong.append(hit)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cache.get_stats()["hits"] == 800
    assert cache.get_stats()["entries"] == 50


@pytest.mark.parametrize("arguments", [{"ttl_hours": 0}, {"max_size_mb": -1}, {"cache_secret": ""}])
def test_arguments_that_mean_nothing_are_refused(
    arguments: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError):
        ResponseCache(tmp_path, **arguments)  # type: ignore[arg-type] # by name


def test_the_default_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with ResponseCache() as cache:
        cache.set("writer", "task", MODEL, "Hello.", 1, 1, 0.0)
    assert (tmp_path / ".cache" / "claude-force" / "answers" / "responses.db").exists()


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with ResponseCache(os.path.join("~", "answers")) as cache:  # noqa: PTH118 - a path as a user writes it
        assert cache.cache_dir == Path(tmp_path) / "answers"
