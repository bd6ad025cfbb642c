"""Checks a request body as the API does. The first thing that is wrong is raised as an `ApiError`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from claude_force.domain.messages import SAMPLING_API_VERSION
from claude_force.simulator.content import cache_ttl, check_messages, check_system, check_tools
from claude_force.simulator.errors import ApiError, JsonObject
from claude_force.simulator.generations import (
    always_thinks,
    is_adaptive_only,
    is_served,
    refuses_prefill,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

API_VERSIONS: Final = frozenset({"2023-01-01", "2023-06-01", "2026-10-21"})
EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")
MAX_CACHE_BREAKPOINTS: Final = 4
# First line of every simulated text. A conversation that ends with it is a paused answer that is sent back to go on.
SIMULATED_MARK: Final = "[simulated answer: no model ran]"

_SAMPLING: Final = ("temperature", "top_p", "top_k")
_PROMPT_FIELDS: Final = frozenset(
    {"model", "messages", "system", "tools", "tool_choice", "thinking", "output_config"}
    | {"cache_control", "speed", "user_profile_id", "workspace_id"}
)
_MESSAGE_FIELDS: Final = _PROMPT_FIELDS | {
    *_SAMPLING,
    "container",
    "diagnostics",
    "inference_geo",
    "max_tokens",
    "metadata",
    "service_tier",
    "stop_sequences",
    "stream",
}
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "service_tier": ("auto", "standard_only"),
    "speed": ("standard", "fast"),
}
_THINKING: Final = ("adaptive", "between_tools", "enabled", "disabled")
_TOOL_CHOICES: Final = ("auto", "any", "none", "tool")


def check_version(headers: Mapping[str, str]) -> str:
    """The API version that the request asks for."""
    version = headers.get("anthropic-version")
    if not version:
        raise ApiError(400, "anthropic-version: header is required")
    if version not in API_VERSIONS:
        raise ApiError(400, f"anthropic-version: {version!r} is not a valid version")
    return version


def check_message_request(body: Mapping[str, Any], *, version: str, today: date) -> None:
    """Refuse what ``POST /v1/messages`` refuses. ``today`` decides which models are retired."""
    _check_known(body, _MESSAGE_FIELDS)
    _check_required(body, ("model", "max_tokens", "messages"))
    max_tokens = body["max_tokens"]
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int):
        raise ApiError(400, "max_tokens: Input should be a valid integer")
    if max_tokens < 1:
        raise ApiError(400, "max_tokens: Input should be greater than or equal to 1")
    if not isinstance(body.get("stream", False), bool):
        raise ApiError(400, "stream: Input should be a valid boolean")
    if "stop_sequences" in body:
        _check_stop_sequences(body["stop_sequences"])
    if "metadata" in body:
        _check_metadata(body["metadata"])
    _check_prompt(body, today=today)
    _check_sampling(body, version=version)
    thinking = body.get("thinking") or {}
    budget = thinking.get("budget_tokens")
    if budget is not None and budget >= max_tokens:
        raise ApiError(400, "`max_tokens` must be greater than `thinking.budget_tokens`.")


def check_count_request(body: Mapping[str, Any], *, today: date) -> None:
    """Refuse what ``POST /v1/messages/count_tokens`` refuses."""
    _check_known(body, _PROMPT_FIELDS)
    _check_required(body, ("model", "messages"))
    _check_prompt(body, today=today)


def _check_metadata(value: object) -> None:
    if not isinstance(value, dict) or not isinstance(value.get("user_id", ""), str | None):
        raise ApiError(400, "metadata.user_id: Input should be a valid string")


def _check_prompt(body: Mapping[str, Any], *, today: date) -> None:
    model = body["model"]
    if not isinstance(model, str):
        raise ApiError(400, "model: Input should be a valid string")
    marks = list(check_tools(body["tools"])) if "tools" in body else []
    if "system" in body:
        marks += check_system(body["system"])
    marks += check_messages(body["messages"])
    _check_marks(marks, top_level=body.get("cache_control"))
    for field in _CHOICES.keys() & body.keys():
        if body[field] is not None:
            _check_choice(field, body[field], _CHOICES[field])
    _check_output_config(body.get("output_config"))
    if not is_served(model, today):
        raise ApiError(404, f"model: {model}")
    _check_thinking(body.get("thinking"), model)
    _check_tool_choice(body)
    _check_last_turn(body["messages"][-1], model)


def _check_known(body: Mapping[str, Any], fields: frozenset[str]) -> None:
    if not body.keys() <= fields:
        unknown = next(name for name in body if name not in fields)
        raise ApiError(400, f"{unknown}: Extra inputs are not permitted")


def _check_required(body: Mapping[str, Any], fields: tuple[str, ...]) -> None:
    for field in fields:
        if field not in body:
            raise ApiError(400, f"{field}: Field required")


def _check_choice(path: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        allowed = ", ".join(f"'{choice}'" for choice in choices[:-1]) + f" or '{choices[-1]}'"
        raise ApiError(400, f"{path}: Input should be {allowed}")


def _check_stop_sequences(value: object) -> None:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ApiError(400, "stop_sequences: Input should be a valid list of strings")
    if any(not item.strip() for item in value):
        raise ApiError(400, "stop_sequences: each stop sequence must contain non-whitespace")


def _check_sampling(body: Mapping[str, Any], *, version: str) -> None:
    for field in _SAMPLING:
        if field not in body:
            continue
        if version > SAMPLING_API_VERSION:
            raise ApiError(400, f"{field}: Extra inputs are not permitted")
        if is_adaptive_only(body["model"]):
            raise ApiError(400, f"`{field}` is not supported by {body['model']}.")
        value = body[field]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ApiError(400, f"{field}: Input should be a valid number")
        if value < 0 or (field != "top_k" and value > 1):
            raise ApiError(400, f"{field}: range: 0..1")


def _check_thinking(value: object, model: str) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        raise ApiError(400, "thinking: Input should be a valid dictionary")
    kind = value.get("type")
    _check_choice("thinking.type", kind, _THINKING)
    if kind == "enabled":
        if is_adaptive_only(model):
            raise ApiError(
                400,
                f"thinking: a budget is not supported by {model}. Use thinking.type 'adaptive' and "
                "output_config.effort.",
            )
        budget = value.get("budget_tokens")
        if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1024:
            raise ApiError(
                400, "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
            )
    elif "budget_tokens" in value:
        raise ApiError(400, f"thinking.{kind}.budget_tokens: Extra inputs are not permitted")
    if kind == "disabled" and always_thinks(model):
        raise ApiError(400, f"thinking: 'disabled' is not supported by {model}.")


def _check_output_config(value: object) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        raise ApiError(400, "output_config: Input should be a valid dictionary")
    for field in value:
        if field not in {"effort", "format"}:
            raise ApiError(400, f"output_config.{field}: Extra inputs are not permitted")
    if (effort := value.get("effort")) is not None:
        _check_choice("output_config.effort", effort, EFFORTS)
    if value.get("format") is not None:
        _check_format(value["format"])


def _check_format(form: object) -> None:
    if not isinstance(form, dict) or form.get("type") != "json_schema":
        raise ApiError(400, "output_config.format.type: Input should be 'json_schema'")
    if not isinstance(form.get("schema"), dict):
        raise ApiError(400, "output_config.format.schema: Field required")
    for field in form:
        if field not in {"type", "schema"}:
            raise ApiError(400, f"output_config.format.{field}: Extra inputs are not permitted")


def _check_tool_choice(body: Mapping[str, Any]) -> None:
    choice = body.get("tool_choice")
    if choice is None:
        return
    if not isinstance(choice, dict):
        raise ApiError(400, "tool_choice: Input should be a valid dictionary")
    _check_choice("tool_choice.type", choice.get("type"), _TOOL_CHOICES)
    names = [tool.get("name") for tool in body.get("tools", [])]
    if choice["type"] in {"any", "tool"} and not names:
        raise ApiError(400, "tool_choice: may only be specified while providing tools")
    if choice["type"] == "tool" and choice.get("name") not in names:
        raise ApiError(400, f"tool_choice: Tool '{choice.get('name')}' not found in provided tools")


def _check_marks(marks: list[str], *, top_level: object) -> None:
    if top_level is not None:
        marks = [*marks, cache_ttl(top_level, "cache_control")]
    if len(marks) > MAX_CACHE_BREAKPOINTS:
        raise ApiError(
            400,
            f"A maximum of {MAX_CACHE_BREAKPOINTS} blocks with cache_control may be provided. "
            f"Found {len(marks)}.",
        )
    if "5m" in marks and "1h" in marks[marks.index("5m") :]:
        raise ApiError(
            400,
            "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. "
            "Note that blocks are processed in the following order: `tools`, `system`, `messages`.",
        )


def _check_last_turn(message: JsonObject, model: str) -> None:
    if message["role"] != "assistant" or not refuses_prefill(model):
        return
    content = message["content"]
    if isinstance(content, list):
        content = next((b["text"] for b in content if b.get("type") == "text"), "")
    if not content.startswith(SIMULATED_MARK):
        raise ApiError(
            400, f"{model} does not support prefill: the last message must not be 'assistant'."
        )
