"""The bounded mapping in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from claude_force.cache.lru import ByteLru

_operations = st.lists(
    st.tuples(st.sampled_from(["get", "put", "discard"]), st.integers(0, 5), st.integers(0, 12)),
    max_size=60,
)


@given(_operations)
def test_it_agrees_with_a_list_that_is_searched(operations: list[tuple[str, int, int]]) -> None:
    lru: ByteLru[int, int] = ByteLru(10)
    model: OrderedDict[int, int] = OrderedDict()
    for operation, key, size in operations:
        if operation == "get":
            expected = model.get(key)
            if expected is not None:
                model.move_to_end(key)
            assert lru.get(key) == expected
        elif operation == "discard":
            model.pop(key, None)
            lru.discard(key)
        else:
            model.pop(key, None)
            assert lru.put(key, size, size) == (size <= 10)
            if size <= 10:
                model[key] = size
                while sum(model.values()) > 10:
                    model.popitem(last=False)
        assert lru.values() == list(model.values())
        assert lru.size_bytes == sum(model.values()) <= 10


def test_a_value_over_the_bound_is_refused_and_leaves_the_rest() -> None:
    lru: ByteLru[str, str] = ByteLru(10)
    lru.put("a", "kept", 10)
    assert lru.put("b", "too large", 11) is False
    assert lru.get("a") == "kept"


def test_eight_threads_leave_the_sum_right_and_within_the_bound() -> None:
    lru: ByteLru[int, int] = ByteLru(500)
    start = threading.Barrier(8)

    def work(seed: int) -> None:
        start.wait()
        for index in range(2000):
            key = (seed * 7919 + index * 31) % 97
            lru.put(key, key, key % 13 + 1)
            lru.get((key + 1) % 97)
            if index % 5 == 0:
                lru.discard(key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lru.size_bytes == sum(value % 13 + 1 for value in lru.values()) <= 500
