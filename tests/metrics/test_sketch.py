"""The sketch keeps its error bound, and merging is adding."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from claude_force.metrics.sketch import (
    LARGEST_SECONDS,
    RELATIVE_ERROR,
    SMALLEST_SECONDS,
    Sketch,
)

durations = st.floats(min_value=SMALLEST_SECONDS, max_value=LARGEST_SECONDS)
lists = st.lists(durations, max_size=200)


@given(st.lists(durations, min_size=1, max_size=300), st.floats(min_value=0, max_value=1))
def test_quantile_is_within_one_percent_of_the_sample(values: list[float], share: float) -> None:
    true = sorted(values)[max(math.ceil(share * len(values)), 1) - 1]
    (found,) = Sketch.of(values).quantiles(share)
    assert found is not None
    assert abs(found - true) <= RELATIVE_ERROR * true * (1 + 1e-9)


@given(lists, lists)
def test_merged_sketches_are_the_sketch_of_all(left: list[float], right: list[float]) -> None:
    merged = Sketch.of(left)
    merged.merge(Sketch.of(right))
    assert merged == Sketch.of(left + right)
    assert merged.count == len(left) + len(right)


@given(lists, lists, lists)
def test_order_of_merging_does_not_matter(a: list[float], b: list[float], c: list[float]) -> None:
    one, other = Sketch.of(a), Sketch.of(c)
    for values in (b, c):
        one.merge(Sketch.of(values))
    for values in (b, a):
        other.merge(Sketch.of(values))
    assert one == other


@given(lists)
def test_stored_form_gives_the_same_sketch(values: list[float]) -> None:
    assert Sketch.from_bytes(Sketch.of(values).to_bytes()) == Sketch.of(values)


def test_counts_of_every_width_are_stored() -> None:
    for count in (1, 255, 256, 65_535, 65_536, 1_000_000):
        sketch = Sketch.of([2.0])
        stored = Sketch.from_bytes(sketch.to_bytes())
        # Doubled and added as often as it takes: a million values one by one would be slow.
        total = Sketch()
        for bit in f"{count:b}":
            total.merge(Sketch.from_bytes(total.to_bytes()))
            if bit == "1":
                total.merge(stored)
        assert Sketch.from_bytes(total.to_bytes()).count == count


def test_values_beyond_the_bounds_count_as_the_bounds() -> None:
    sketch = Sketch.of([0.0, -1.0, math.nan, 1e9])
    low, high = sketch.quantiles(0.5, 1)
    assert sketch.count == 4
    assert low is not None
    assert math.isclose(low, SMALLEST_SECONDS, rel_tol=RELATIVE_ERROR)
    assert high is not None
    assert math.isclose(high, LARGEST_SECONDS, rel_tol=2 * RELATIVE_ERROR)


def test_nothing_counted_has_no_quantile() -> None:
    assert Sketch().quantiles(0.5, 0.99) == (None, None)
    assert Sketch().to_bytes() == b""
