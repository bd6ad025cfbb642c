"""Checks the blocks of a prompt: tools, system and messages. Each check gives the cache lifetimes it met, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from claude_force.simulator.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ROLES: Final = frozenset({"user", "assistant", "system"})
# Fields of a block that must be there, by its type. A type that is not here is refused.
_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "text": ("text",),
    "image": ("source",),
    "document": ("source",),
    "search_result": ("content", "source", "title"),
    "thinking": ("thinking", "signature"),
    "redacted_thinking": ("data",),
    "tool_use": ("id", "name", "input"),
    "tool_result": ("tool_use_id",),
    "server_tool_use": ("id", "name", "input"),
    "web_search_tool_result": ("tool_use_id", "content"),
    "web_fetch_tool_result": ("tool_use_id", "content"),
    "code_execution_tool_result": ("tool_use_id", "content"),
    "bash_code_execution_tool_result": ("tool_use_id", "content"),
    "text_editor_code_execution_tool_result": ("tool_use_id", "content"),
    "tool_search_tool_result": ("tool_use_id", "content"),
    "container_upload": ("file_id",),
}
_TEXT_FIELDS: Final = frozenset({"type", "text", "cache_control", "citations"})


def cache_ttl(value: object, path: str) -> str:
    """The lifetime that a ``cache_control`` asks for: 5m where it says nothing."""
    if not isinstance(value, dict) or value.get("type") != "ephemeral":
        raise ApiError(400, f"{path}.type: Input should be 'ephemeral'")
    ttl = value.get("ttl", "5m")
    if ttl not in ("5m", "1h"):  # a list from JSON cannot be looked up in a set
        raise ApiError(400, f"{path}.ephemeral.ttl: Input should be '5m' or '1h'")
    if not value.keys() <= {"type", "ttl"}:
        unknown = next(name for name in value if name not in {"type", "ttl"})
        raise ApiError(400, f"{path}.ephemeral.{unknown}: Extra inputs are not permitted")
    return str(ttl)


def check_tools(value: object) -> Iterator[str]:
    """The tools: an object each, with a name."""
    if not isinstance(value, list):
        raise ApiError(400, "tools: Input should be a valid list")
    for index, tool in enumerate(value):
        path = f"tools.{index}"
        if not isinstance(tool, dict):
            raise ApiError(400, f"{path}: Input should be a valid dictionary")
        if not isinstance(tool.get("name"), str) or not tool["name"]:
            raise ApiError(400, f"{path}.name: Field required")
        # Tools of the API itself carry a versioned type and no schema.
        if tool.get("type", "custom") == "custom" and not isinstance(
            tool.get("input_schema"), dict
        ):
            raise ApiError(400, f"{path}.custom.input_schema: Field required")
        yield from _mark(tool, path)


def check_system(value: object) -> Iterator[str]:
    """The system prompt: a text, or text blocks."""
    if isinstance(value, str):
        return
    if not isinstance(value, list):
        raise ApiError(400, "system: Input should be a valid string or list")
    for index, block in enumerate(value):
        path = f"system.{index}"
        if not isinstance(block, dict):
            raise ApiError(400, f"{path}: Input should be a valid dictionary")
        if block.get("type") != "text":
            raise ApiError(400, f"{path}.type: Input should be 'text'")
        _check_text_block(block, path, "system")
        yield from _mark(block, path)


def check_messages(value: object) -> Iterator[str]:
    """The conversation: at least one message, each with a role and content. Any role may come first."""
    if not isinstance(value, list):
        raise ApiError(400, "messages: Input should be a valid list")
    if not value:
        raise ApiError(400, "messages: at least one message is required")
    for index, message in enumerate(value):
        path = f"messages.{index}"
        if not isinstance(message, dict):
            raise ApiError(400, f"{path}: Input should be a valid dictionary")
        _check_message_fields(message, path)
        content = message["content"]
        if isinstance(content, str):
            if not content and not (index == len(value) - 1 and message["role"] == "assistant"):
                raise ApiError(400, f"{path}: all messages must have non-empty content")
            continue
        if not isinstance(content, list):
            raise ApiError(400, f"{path}.content: Input should be a valid string or list")
        if not content:
            raise ApiError(400, f"{path}: all messages must have non-empty content")
        for place, block in enumerate(content):
            yield from _check_block(block, f"{path}.content.{place}")


def _check_message_fields(message: Mapping[str, Any], path: str) -> None:
    for field in ("role", "content"):
        if field not in message:
            raise ApiError(400, f"{path}.{field}: Field required")
    if not isinstance(message["role"], str) or message["role"] not in _ROLES:
        raise ApiError(400, f"{path}.role: Input should be 'user', 'assistant' or 'system'")
    if not message.keys() <= {"role", "content"}:
        unknown = next(name for name in message if name not in {"role", "content"})
        raise ApiError(400, f"{path}.{unknown}: Extra inputs are not permitted")


def _check_block(block: object, path: str) -> Iterator[str]:
    if not isinstance(block, dict):
        raise ApiError(400, f"{path}: Input should be a valid dictionary")
    kind = block.get("type")
    required = _REQUIRED.get(kind) if isinstance(kind, str) else None
    if required is None:
        allowed = ", ".join(f"'{name}'" for name in _REQUIRED)
        raise ApiError(
            400, f"{path}: Input tag '{kind}' does not match any of the expected tags: {allowed}"
        )
    for field in required:
        if field not in block:
            raise ApiError(400, f"{path}.{kind}.{field}: Field required")
    if kind == "text":
        _check_text_block(block, path, "messages")
    elif kind in {"image", "document"} and not isinstance(block["source"], dict):
        raise ApiError(400, f"{path}.{kind}.source: Input should be a valid dictionary")
    yield from _mark(block, path)


def _check_text_block(block: Mapping[str, Any], path: str, where: str) -> None:
    text = block.get("text")
    if not isinstance(text, str):
        raise ApiError(400, f"{path}.text: Input should be a valid string")
    if not text:
        raise ApiError(400, f"{where}: text content blocks must be non-empty")
    if not text.strip() and where == "messages":
        raise ApiError(400, "messages: text content blocks must contain non-whitespace text")
    if not block.keys() <= _TEXT_FIELDS:
        unknown = next(name for name in block if name not in _TEXT_FIELDS)
        raise ApiError(400, f"{path}.text.{unknown}: Extra inputs are not permitted")


def _mark(block: Mapping[str, Any], path: str) -> Iterator[str]:
    control = block.get("cache_control")
    if control is not None:
        yield cache_ttl(control, f"{path}.cache_control")
