"""How the next part of an answer is asked for, and how it is joined to what is there.

A model that takes a prefill goes on with a text that stands in its own name. Every other one is asked in a turn of the
user to go on, and to begin with the last characters of what it said, repeated. Without them the join would be a guess: an
answer begins with no space and no line end, so nobody could tell whether the cut went through a word or between two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from claude_force.domain.messages import Message, TextBlock
from claude_force.domain.models import takes_prefill

if TYPE_CHECKING:
    from claude_force.domain.messages import MessageRequest

# Long enough to occur once, short enough to be repeated without a mistake.
_ANCHOR_CHARACTERS: Final = 80
_SHORTEST_ANCHOR_CHARACTERS: Final = 8
# What a model may say before it repeats them.
_PREAMBLE_CHARACTERS: Final = 200
_GO_ON: Final = (
    "Your answer was cut off at its length limit. Go on exactly where it ended. Do not start again, do not sum up, and "
    "say nothing about the interruption. Begin with the last characters of your answer, which stand between the marks, "
    "repeated exactly as they are, and then write what follows them.\n<last-characters>{anchor}</last-characters>"
)


@dataclass(frozen=True, slots=True)
class NextPart:
    """The request for the next part of an answer."""

    request: MessageRequest
    # What is there, without the white space at its end, which the next part brings again.
    so_far: str
    # What the next part repeats first; empty where it goes on at once.
    anchor: str


def next_part(request: MessageRequest, text: str) -> NextPart | None:
    """What asks for the rest of ``text``, the unfinished answer to ``request``; None where nothing can be continued."""
    so_far = text.rstrip()
    if not so_far:
        # The whole length went into thinking, so there is nothing to go on from.
        return None
    said = Message("assistant", (TextBlock(so_far),))
    if _prefills(request):
        return NextPart(replace(request, messages=(*request.messages, said)), so_far, "")
    anchor = anchor_of(so_far, max_tokens=request.max_tokens)
    go_on = Message("user", (TextBlock(_GO_ON.format(anchor=anchor)),))
    # Without the schema: with it the model would have to begin a whole JSON text again.
    asked = replace(request, messages=(*request.messages, said, go_on), output_schema=None)
    return NextPart(asked, so_far, anchor)


def anchor_of(text: str, *, max_tokens: int) -> str:
    """The last characters of ``text``, from the beginning of a word on where there is one.

    Of an answer that may only be short they are few, or repeating them would be all that it is long enough for.
    """
    size = max(_SHORTEST_ANCHOR_CHARACTERS, min(_ANCHOR_CHARACTERS, max_tokens * 3 // 4))
    if len(text) <= size:
        return text
    tail = text[-size:]
    if text[-size - 1].isspace():
        return tail.lstrip()
    _, _, whole_words = tail.partition(" ")
    return (whole_words if len(whole_words) >= size // 2 else tail).lstrip()


class Seam:
    """Takes the next part as it arrives, and gives what it adds.

    White space within what is repeated may differ; anything else may not.
    """

    def __init__(self, anchor: str) -> None:
        self._anchor = anchor
        self._pattern = re.compile(r"\s+".join(map(re.escape, anchor.split())))
        self._head = ""
        # True once it is known where the new text begins.
        self.found = not anchor

    def feed(self, text: str) -> str:
        """What ``text`` adds to the answer; empty while it repeats what is there."""
        if self.found:
            return text
        self._head += text
        match = self._pattern.search(self._head, 0, 2 * len(self._anchor) + _PREAMBLE_CHARACTERS)
        if match is None:
            return ""
        self.found = True
        return self._head[match.end() :]


def _prefills(request: MessageRequest) -> bool:
    """Whether every model that may answer goes on with a text of its own; none does where a schema leads it."""
    models = (request.model, *request.context.fallback)
    return request.output_schema is None and all(map(takes_prefill, models))
