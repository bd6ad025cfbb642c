"""One stored answer, and the signed bytes in which it leaves the process."""

from __future__ import annotations

import hmac
from hashlib import sha256
from threading import Lock
from typing import TYPE_CHECKING, Final

import msgspec

from claude_force.cache.fingerprint import CacheKey  # noqa: TC001 - msgspec resolves it at run time

if TYPE_CHECKING:
    from collections.abc import Callable

_MAC_BYTES: Final = 32
# A record is a MessagePack array and begins with another byte, so no mark is the signature of one.
_MARK_PURPOSE: Final = b"mark "
# The block of SHA-256.
_BLOCK_BYTES: Final = 64
# Separates these signatures from any other use of the same secret, and one form of record from the next.
_PURPOSE: Final = b"claude-force cache entry 1"
# What an entry takes in memory beside its body: the object, its key, names and fields.
_OVERHEAD_BYTES: Final = 1024


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """An answer and what is known about it. A msgspec struct, for it is decoded at every hit from disk."""

    key: CacheKey
    # Who asked, and which model was asked.
    agent_name: str
    model: str
    # Seconds since the epoch, UTC; signed, so expiry cannot be put off by editing a file.
    created_at: float
    # The answer, encoded by whoever stored it.
    body: bytes
    # The key's fields by name (fingerprint.request_fields).
    fields: dict[str, str] = {}
    input_tokens: int = 0
    output_tokens: int = 0
    # Dollars that the answer cost, as text of a Decimal; None where no price is known.
    cost_usd: str | None = None
    # The same without the discounts of prompt cache, batch and fallback; None where they are not known.
    plain_usd: str | None = None

    @property
    def size_bytes(self) -> int:
        """About what the entry takes in memory."""
        return len(self.body) + _OVERHEAD_BYTES


class EntrySigner:
    """Turns entries into signed records and back: HMAC-SHA256 over key, metadata and body. Safe in any thread.

    A secret that is given as a function is asked for once, when the first record is signed or read: that may be a
    file, and an event loop must not wait for it.
    """

    __slots__ = ("_decode", "_encode", "_lock", "_mac", "_secret")

    def __init__(self, secret: bytes | Callable[[], bytes]) -> None:
        self._secret = secret
        self._mac: Callable[[bytes | memoryview], bytes] | None = None
        # Two threads must not make two secrets.
        self._lock = Lock()
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(CacheEntry).decode

    def __repr__(self) -> str:
        return "EntrySigner(<secret>)"

    def seal(self, entry: CacheEntry) -> bytes:
        """The record of ``entry``: 32 bytes of signature, then what is signed."""
        payload = self._encode(entry)
        return (self._mac or self._make_mac())(payload) + payload

    def unseal(self, record: bytes, *, check_signature: bool = True) -> CacheEntry | None:
        """The entry of ``record``; None where it was not written with this secret or is not whole."""
        # A view, because copying the body would take as long as decoding it.
        payload = memoryview(record)[_MAC_BYTES:]
        if check_signature and not hmac.compare_digest(
            record[:_MAC_BYTES], (self._mac or self._make_mac())(payload)
        ):
            return None
        try:
            return self._decode(payload)
        except msgspec.MsgspecError:
            return None

    def mark(self, text: bytes) -> bytes:
        """A signature of something that is no entry; the form of no record begins with its purpose."""
        return (self._mac or self._make_mac())(_MARK_PURPOSE + text)

    def shares_secret(self, other: EntrySigner) -> bool:
        """True when each accepts what the other signed."""
        mine, theirs = self._mac or self._make_mac(), other._mac or other._make_mac()
        return hmac.compare_digest(mine(b""), theirs(b""))

    def _make_mac(self) -> Callable[[bytes | memoryview], bytes]:
        with self._lock:
            if self._mac is None:
                secret = self._secret if isinstance(self._secret, bytes) else self._secret()
                self._mac = _hmac_sha256(hmac.digest(secret, _PURPOSE, "sha256"))
            return self._mac


def _hmac_sha256(key: bytes) -> Callable[[bytes | memoryview], bytes]:
    """HMAC-SHA256 with a key of at most 64 bytes, as in RFC 2104, with both padded keys digested in advance.

    ``hmac.digest`` looks its algorithm up and pads its key at every call, which is a third of the time for 4 KB.
    """
    inner = sha256(bytes(byte ^ 0x36 for byte in key.ljust(_BLOCK_BYTES, b"\0")))
    outer = sha256(bytes(byte ^ 0x5C for byte in key.ljust(_BLOCK_BYTES, b"\0")))

    def mac(message: bytes | memoryview) -> bytes:
        first, second = inner.copy(), outer.copy()
        first.update(message)
        second.update(first.digest())
        return second.digest()

    return mac
