"""What the simulator answers: a text that says that no model ran, and what the request asked.

The same request and seed give the same answer, byte for byte, whenever and however often it is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from claude_force.domain.tokens import estimate_tokens
from claude_force.simulator.draws import Draws
from claude_force.simulator.faults import STOP_REASONS, FaultKind
from claude_force.simulator.schemas import SchemaInstance
from claude_force.simulator.task_view import describe_request
from claude_force.simulator.validation import SIMULATED_MARK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_force.simulator.errors import JsonObject
    from claude_force.simulator.prompts import Prompt
    from claude_force.simulator.scenarios import Scenario
    from claude_force.simulator.unfinished import Rest, Unfinished

_CHARACTERS_PER_TOKEN: Final = 3.8
_NOTES: Final = (
    "A model would write its findings here; the simulator only shows what it was given.",
    "The length of this answer is drawn from the seed, so that timings and token counts look real.",
    "The same request gives this same text again, in any order and at any concurrency.",
    "Nothing was read, judged or decided for this answer.",
    "Usage and limits are counted as the API counts them; the dollars are what it would charge.",
    "With an API key in place the same request goes to the model without a change.",
)


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """One content block of an answer."""

    # text, thinking or tool_use.
    kind: str
    # The text, the thinking, or the tool's input as JSON.
    text: str
    # Of a tool_use.
    tool_name: str = ""
    tool_id: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, whole."""

    blocks: tuple[Block, ...]
    stop_reason: str | None
    output_tokens: int
    thinking_tokens: int = 0
    stop_sequence: str | None = None
    stop_details: Mapping[str, str] | None = None


def make_answer(
    prompt: Prompt,
    *,
    seed: int,
    scenario: Scenario,
    fault: FaultKind | None = None,
    unfinished: Unfinished | None = None,
) -> Answer:
    """The answer to a prompt; a fault that is a stop reason decides how it ends.

    ``unfinished`` is what was cut off before: a prompt that asks to go on with it gets the rest.
    """
    draws = Draws(seed, prompt.fingerprint)
    rest = None if unfinished is None else unfinished.rest(prompt.body)
    if rest is None or fault is FaultKind.REFUSAL:
        blocks, stop_reason, stop_sequence = _content(prompt, draws, scenario, fault)
    else:
        blocks = [Block(kind="text", text=rest.repeated + rest.text)]
        stop_reason, stop_sequence = "end_turn", None
    whole = _said(blocks)
    if fault is not None and fault in STOP_REASONS:
        stop_reason = STOP_REASONS[fault]
        if fault in _CUT_SHORT:
            blocks = _within(blocks, max(1, _tokens(blocks) // 2))
    output_tokens = _tokens(blocks)
    max_tokens = prompt.body.get("max_tokens", output_tokens)
    if output_tokens > max_tokens:
        blocks, stop_reason, stop_sequence = _within(blocks, max_tokens), "max_tokens", None
        output_tokens = _tokens(blocks)
    if stop_reason == "max_tokens" and unfinished is not None:
        _remember(unfinished, rest, _said(blocks), whole)
    return Answer(
        blocks=tuple(blocks),
        stop_reason=stop_reason,
        # Even an answer without a text costs the token that ends it.
        output_tokens=max(1, output_tokens),
        thinking_tokens=_tokens(blocks, "thinking"),
        stop_sequence=stop_sequence,
        stop_details=_REFUSAL if stop_reason == "refusal" else None,
    )


def _content(
    prompt: Prompt, draws: Draws, scenario: Scenario, fault: FaultKind | None
) -> tuple[list[Block], str | None, str | None]:
    """Blocks, stop reason and stop sequence before any fault or limit cuts them."""
    blocks = _thinking(prompt, scenario)
    tool_choice = prompt.body.get("tool_choice")
    if fault is FaultKind.TOOL_USE or (tool_choice and tool_choice["type"] in {"any", "tool"}):
        return [*blocks, _tool_use(prompt, draws)], "tool_use", None
    if fault is FaultKind.EMPTY_TEXT:
        return [*blocks, Block(kind="text", text="")], "end_turn", None
    if fault is FaultKind.REFUSAL:
        return blocks, "refusal", None
    text = _text(prompt, draws, scenario)
    stop_sequence = None
    if sequences := prompt.body.get("stop_sequences"):
        text, stop_sequence = _stopped(text, sequences)
    parts = [text] if scenario.text_blocks == 1 else _split(text, scenario.text_blocks)
    blocks += [Block(kind="text", text=part) for part in parts]
    return blocks, "end_turn" if stop_sequence is None else "stop_sequence", stop_sequence


_CUT_SHORT: Final = frozenset({FaultKind.MAX_TOKENS, FaultKind.CONTEXT_EXCEEDED})
_REFUSAL: Final = {
    "type": "refusal",
    "category": "general_harms",
    "explanation": "simulated refusal: no model ran",
}


def _said(blocks: list[Block]) -> str:
    return "".join([block.text for block in blocks if block.kind == "text"])


def _remember(unfinished: Unfinished, rest: Rest | None, said: str, whole: str) -> None:
    if rest is None:
        unfinished.remember(said, whole)
        return
    new, all_new = said[len(rest.repeated) :], whole[len(rest.repeated) :]
    unfinished.remember(rest.so_far + new, rest.so_far + all_new)


def _tokens(blocks: list[Block], kind: str | None = None) -> int:
    return sum([estimate_tokens(block.text) for block in blocks if kind in {None, block.kind}])


def _thinking(prompt: Prompt, scenario: Scenario) -> list[Block]:
    asked = prompt.body.get("thinking")
    if not (scenario.thinking or (asked and asked["type"] in {"adaptive", "enabled"})):
        return []
    text = f"[simulated thinking: no model ran] The request has {prompt.total_tokens} tokens."
    return [Block(kind="thinking", text=text)]


def _text(prompt: Prompt, draws: Draws, scenario: Scenario) -> str:
    form = (prompt.body.get("output_config") or {}).get("format")
    if form is not None:
        value = SchemaInstance(form["schema"], draws).make()
        return msgspec.json.encode(value).decode()
    target = draws.between("length", scenario.min_output_tokens, scenario.max_output_tokens)
    lines = [SIMULATED_MARK, *describe_request(prompt)]
    size = sum(len(line) + 1 for line in lines)
    first = draws.integer("notes")
    number = 0
    while size < target * _CHARACTERS_PER_TOKEN:
        number += 1
        line = f"{number}. {_NOTES[(first + number) % len(_NOTES)]}"
        lines.append(line)
        size += len(line) + 1
    return "\n".join(lines)


def _tool_use(prompt: Prompt, draws: Draws) -> Block:
    choice: Mapping[str, Any] = prompt.body.get("tool_choice") or {}
    tools = [
        tool for tool in prompt.body.get("tools", ()) if choice.get("name") in {None, tool["name"]}
    ]
    tool: JsonObject = (
        tools[0] if tools else {"name": "simulated_tool", "input_schema": {"type": "object"}}
    )
    value = SchemaInstance({"type": "object", **tool.get("input_schema", {})}, draws).make()
    return Block(
        kind="tool_use",
        text=msgspec.json.encode(value).decode(),
        tool_name=tool["name"],
        tool_id=f"toolu_sim{draws.integer('tool'):016x}",
    )


def _stopped(text: str, sequences: list[str]) -> tuple[str, str | None]:
    found = [(text.find(sequence), sequence) for sequence in sequences if sequence in text]
    if not found:
        return text, None
    at, sequence = min(found)
    return text[:at], sequence


def _split(text: str, parts: int) -> list[str]:
    """The text in up to ``parts`` pieces, none of them empty; joined they give the text again."""
    size = max(1, -(-len(text) // parts))
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]


def _within(blocks: list[Block], max_tokens: int) -> list[Block]:
    """The blocks up to ``max_tokens``, the last one cut."""
    kept = []
    left = max_tokens
    for block in blocks:
        if left <= 0:
            break
        text = cut_to_tokens(block.text, left)
        left -= estimate_tokens(text)
        kept.append(
            Block(kind=block.kind, text=text, tool_name=block.tool_name, tool_id=block.tool_id)
        )
    return kept


def cut_to_tokens(text: str, max_tokens: int) -> str:
    """The longest start of ``text`` that is estimated at no more than ``max_tokens``."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if estimate_tokens(text[:middle]) <= max_tokens:
            low = middle
        else:
            high = middle - 1
    return text[:low]
