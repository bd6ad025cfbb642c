"""What the simulator was about to say when an answer was cut off, so that it can go on with it when it is asked to."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The answers that were cut off last; whoever goes on with one does so soon.
_KEPT: Final = 10_000
_TO_REPEAT: Final = re.compile(r"<last-characters>(.*)</last-characters>", re.DOTALL)


class Rest(NamedTuple):
    """What follows an unfinished answer."""

    so_far: str
    # The end of it that the next part has to begin with; empty where it goes on at once.
    repeated: str
    text: str


class Unfinished:
    """Answers that were cut off, by the text that was said of them."""

    def __init__(self) -> None:
        self._wholes: OrderedDict[str, str] = OrderedDict()

    def remember(self, said: str, whole: str) -> None:
        """Of ``whole`` only ``said``, its beginning, was answered."""
        so_far = said.rstrip()
        if so_far:
            self._wholes[so_far] = whole
            self._wholes.move_to_end(so_far)
            if len(self._wholes) > _KEPT:
                self._wholes.popitem(last=False)

    def rest(self, body: Mapping[str, Any]) -> Rest | None:
        """What a conversation asks to go on with: an answer in its last turn, or in the last but one."""
        if not self._wholes:
            return None
        messages: Sequence[Mapping[str, Any]] = body["messages"]
        repeated = ""
        if messages[-1]["role"] == "user":
            asked = _TO_REPEAT.search(_text(messages[-1]["content"]))
            if asked is None or len(messages) < 2:
                return None
            repeated, messages = asked.group(1), messages[:-1]
        so_far = _text(messages[-1]["content"])
        whole = self._wholes.get(so_far)
        if messages[-1]["role"] != "assistant" or whole is None:
            return None
        return Rest(so_far, repeated, whole[len(so_far) :])

    def clear(self) -> None:
        """Forget all."""
        self._wholes.clear()


def _text(content: str | Sequence[Mapping[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "".join(block["text"] for block in content if block.get("type") == "text")
