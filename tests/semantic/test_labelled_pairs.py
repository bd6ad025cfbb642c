"""The claim of the docs: on the labelled pairs, nothing is answered wrongly."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claude_force.assembly.semantic import DEFAULT_THRESHOLD
from claude_force.cache.semantic.embedder import own_embedder
from claude_force.cache.semantic.guard import disagreement

if TYPE_CHECKING:
    from types import ModuleType

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

# The sdist has tests, but no benchmarks.
pytestmark = pytest.mark.skipif(
    not BENCHMARKS.is_dir(), reason="missing part: the pairs are kept beside the benchmarks"
)


def labelled() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "semantic_pairs", BENCHMARKS / "semantic_pairs.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["semantic_pairs"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pairs() -> list[Any]:
    module = labelled()
    return list(module.pairs_of(module.read_groups()))


@pytest.fixture(scope="module")
def similar(pairs: list[Any]) -> list[Any]:
    """The pairs that are similar enough."""
    texts = sorted({task for pair in pairs for task in (pair.asked, pair.answered)})
    vectors = dict(zip(texts, own_embedder().embed(texts), strict=True))
    return [
        pair
        for pair in pairs
        # Of two tasks one is stored, in 16 bits.
        if float(vectors[pair.asked] @ vectors[pair.answered].astype("<f2").astype("<f4"))
        >= DEFAULT_THRESHOLD
    ]


def test_there_are_at_least_three_hundred_of_each_kind_of_label_by_hand() -> None:
    groups = labelled().read_groups()
    assert sum(len(group.other) for group in groups) >= 300
    assert sum(len(group.same) for group in groups) >= 300


def test_no_pair_that_asks_something_else_is_a_hit(similar: list[Any]) -> None:
    wrong = [
        pair
        for pair in similar
        if not pair.same and disagreement(pair.asked, pair.answered) is None
    ]
    assert wrong == []


def test_without_the_guard_one_in_seven_would_be(pairs: list[Any], similar: list[Any]) -> None:
    of_all, found = Counter(pair.same for pair in pairs), Counter(pair.same for pair in similar)
    assert found[False] > of_all[False] / 7


def test_a_fifth_of_the_held_out_paraphrases_is_a_hit(pairs: list[Any], similar: list[Any]) -> None:
    of_all = [pair for pair in pairs if pair.same and pair.held_out]
    found = [
        pair
        for pair in similar
        if pair.same and pair.held_out and disagreement(pair.asked, pair.answered) is None
    ]
    assert len(found) >= 0.2 * len(of_all)


def test_the_page_says_what_is_measured(pairs: list[Any], similar: list[Any]) -> None:
    of_all, found = Counter(pair.same for pair in pairs), Counter(pair.same for pair in similar)
    guarded = [pair for pair in similar if disagreement(pair.asked, pair.answered) is None]
    groups = labelled().read_groups()
    page = (BENCHMARKS.parent / "docs" / "semantic-cache.md").read_text("utf-8")
    assert (
        f"| **{DEFAULT_THRESHOLD}** | {found[True] / of_all[True]:.1%} | "
        f"{found[False]:,} ({found[False] / of_all[False]:.1%}) | "
        f"{len(guarded) / of_all[True]:.1%} | 0 |"
    ) in page
    assert f"{len(pairs):,} labelled pairs: {of_all[True]:,} that ask the same, and" in page
    assert f"{sum(len(group.same) for group in groups)} tasks that ask the same and " in page
    assert f" and {sum(len(group.other) for group in groups)} that do not" in page
    assert f"in {len(groups)} groups" in page
