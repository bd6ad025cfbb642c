"""Signed records."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from claude_force.cache.entries import CacheEntry, EntrySigner
from claude_force.cache.fingerprint import CacheKey

if TYPE_CHECKING:
    from collections.abc import Callable

_entries = st.builds(
    CacheEntry,
    key=st.text("0123456789abcdef", min_size=32, max_size=32).map(CacheKey),
    agent_name=st.text(max_size=5),
    model=st.text(max_size=5),
    created_at=st.floats(0, 1e10),
    body=st.binary(max_size=50),
    fields=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
    input_tokens=st.integers(0, 10**6),
    output_tokens=st.integers(0, 10**6),
    cost_usd=st.none() | st.just("0.1"),
)


@given(_entries, st.binary(min_size=1, max_size=100))
def test_an_entry_comes_back_as_it_was_sealed(entry: CacheEntry, secret: bytes) -> None:
    assert EntrySigner(secret).unseal(EntrySigner(secret).seal(entry)) == entry


@given(_entries, st.binary(min_size=1, max_size=100))
def test_the_signature_is_hmac_sha256_of_what_follows_it(entry: CacheEntry, secret: bytes) -> None:
    record = EntrySigner(secret).seal(entry)
    key = hmac.digest(secret, b"claude-force cache entry 1", "sha256")
    assert record[:32] == hmac.digest(key, record[32:], "sha256")


@given(_entries, st.data())
def test_a_record_that_is_cut_lengthened_or_edited_is_refused(
    entry: CacheEntry, data: st.DataObject
) -> None:
    signer = EntrySigner(b"secret")
    record = signer.seal(entry)
    position = data.draw(st.integers(0, len(record) - 1))
    edited = record[:position] + bytes([record[position] ^ 1]) + record[position + 1 :]
    for bad in (edited, record[:position], record + b"\0"):
        assert signer.unseal(bad) is None


def test_a_valid_signature_over_something_else_is_refused() -> None:
    key = hmac.digest(b"secret", b"claude-force cache entry 1", "sha256")
    payload = b"\xc1 is not MessagePack"
    assert EntrySigner(b"secret").unseal(hmac.digest(key, payload, "sha256") + payload) is None


def test_a_secret_that_is_a_function_is_asked_once_and_late(
    make_entry: Callable[..., CacheEntry],
) -> None:
    asked: list[int] = []

    def secret() -> bytes:
        asked.append(1)
        return b"late"

    signer = EntrySigner(secret)
    assert asked == []
    assert signer.unseal(signer.seal(make_entry(1))) == make_entry(1)
    assert signer.shares_secret(EntrySigner(b"late"))
    assert not signer.shares_secret(EntrySigner(b"other"))
    assert len(asked) == 1
