"""The key of a request: 128 bits over everything that the model is asked, and nothing else.

Every field is written with its length before it, so no two different requests share an encoding. In the key: the
provider's origin, model, API version, system blocks, messages, ``max_tokens``, effort, output schema, temperature.
Not in it: timeouts, call and run ids, and ``cache_ttl`` of a block, which says where the provider keeps a prefix
and for how long; it changes the price of an answer, never the answer.

The digest is SHA-256 cut to 128 bits rather than BLAKE2b: processors of the last years have instructions for
SHA-256, and a prompt of 2 KB takes 2.9 µs instead of 4.7 µs (measured by ``benchmarks/cache.py``).
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NewType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_force.domain.messages import MessageRequest, TextBlock

CacheKey = NewType("CacheKey", str)

KEY_CHARACTERS: Final = 32
_FIELD_DIGEST_CHARACTERS: Final = 16
# A change of the encoding changes these words, and with them every key.
_REQUEST_FORM: Final = "claude-force request 1"
_CALL_FORM: Final = "claude-force call 1"
# A prompt is digested once and not at every call of its agent. Bounded: 128 agents at work at once are many.
_PROMPTS_KEPT: Final = 128


def request_key(request: MessageRequest, origin: str) -> CacheKey:
    """The key of ``request`` at the provider that answers under ``origin``: 32 hexadecimal characters."""
    # Plain loops and few calls: this runs at every call, hits included. Each text has its length before it.
    model, version, system, messages = (
        request.model,
        request.api_version,
        request.system,
        request.messages,
    )
    head = (
        f"{_REQUEST_FORM}{len(origin)}:{origin}{len(model)}:{model}{len(version)}:{version}"
        f"{request.max_tokens};{_settings(request)}{len(system)};"
    )
    parts = [head]
    for block in system:
        parts.append(_prompt_digest(block.text))  # noqa: PERF401 - a comprehension costs more for one block
    parts.append(f"{len(messages)};")
    for message in messages:
        role, content = message.role, message.content
        parts.append(f"{len(role)}:{role}{len(content)};")
        for block in content:
            text = block.text
            parts.append(f"{len(text)}:")
            parts.append(text)
    return CacheKey(_digest("".join(parts))[:KEY_CHARACTERS])


def request_fields(request: MessageRequest, origin: str) -> dict[str, str]:
    """Every field of the key by name, so that two requests can be compared without their texts.

    Short settings stand as they are; texts stand as ``#`` and 16 characters of their digest.
    """
    fields = {
        "origin": origin,
        "model": request.model,
        "api_version": request.api_version,
        "max_tokens": str(request.max_tokens),
        "effort": request.effort or "none",
        "temperature": _temperature(request) or "none",
        "output_schema": "none"
        if request.output_schema is None
        else _shown_digest(request.output_schema),
    }
    fields |= _block_fields("system", request.system)
    for index, message in enumerate(request.messages):
        fields |= _block_fields(f"messages[{index}].{message.role}", message.content)
    return fields


def call_key(agent_name: str, task: str, model: str, context: Mapping[str, object]) -> CacheKey:
    """The key of a call by name, for a cache that is used alone; everything in ``context`` counts.

    Raises:
        TypeError: a value in ``context`` has no canonical form.
    """
    parts = [
        _CALL_FORM,
        _sized(agent_name),
        _sized(task),
        _sized(model),
        *[_sized(name) + _canonical(context[name], name) for name in sorted(context)],
    ]
    return CacheKey(_digest("".join(parts))[:KEY_CHARACTERS])


def call_fields(
    agent_name: str, task: str, model: str, context: Mapping[str, object]
) -> dict[str, str]:
    """The fields of ``call_key`` by name, in the form of ``request_fields``."""
    named = {
        f"context.{name}": _shown_digest(_canonical(context[name], name))
        for name in sorted(context)
    }
    return {"agent": agent_name, "model": model, "task": _shown_digest(task), **named}


def _sized(text: str) -> str:
    return f"{len(text)}:{text}"


def _settings(request: MessageRequest) -> str:
    effort, schema, temperature = request.effort, request.output_schema, request.temperature
    if effort is None and schema is None and temperature is None:
        return "---"
    return f"{_optional(effort)}{_optional(schema)}{_optional(_temperature(request))}"


def _optional(text: str | None) -> str:
    return "-" if text is None else _sized(text)


def _temperature(request: MessageRequest) -> str | None:
    # 0 and 0.0 are one temperature.
    return None if request.temperature is None else repr(float(request.temperature))


def _digest(text: str) -> str:
    # surrogatepass: a lone surrogate in a task is the API's to refuse, not the cache's.
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@lru_cache(maxsize=_PROMPTS_KEPT)
def _prompt_digest(text: str) -> str:
    return _digest(text)


def _shown_digest(text: str) -> str:
    return "#" + _digest(text)[:_FIELD_DIGEST_CHARACTERS]


def _block_fields(place: str, blocks: tuple[TextBlock, ...]) -> dict[str, str]:
    return {f"{place}[{index}]": _shown_digest(block.text) for index, block in enumerate(blocks)}


def _canonical(value: object, name: str) -> str:
    """``value`` with its type, so that 1, True, 1.0 and "1" differ."""
    if value is None:
        return "n"
    if isinstance(value, str):
        return "s" + _sized(value)
    if isinstance(value, (bool, int, float)):
        return type(value).__name__[0] + _sized(repr(value))
    if isinstance(value, bytes):
        return "y" + _sized(value.hex())
    if isinstance(value, (list, tuple)):
        return f"l{len(value)};" + "".join([_canonical(item, name) for item in value])
    if isinstance(value, dict):
        pairs = [(_canonical(key, name), _canonical(item, name)) for key, item in value.items()]
        return f"d{len(pairs)};" + "".join([key + item for key, item in sorted(pairs)])
    message = (
        f"context argument {name!r} is a {type(value).__name__}, which has no canonical form; "
        "pass text, bytes, numbers, None, or lists and dicts of them"
    )
    raise TypeError(message)
