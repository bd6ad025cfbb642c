"""What is kept of long texts: their beginning and end, and of an answer the sentences that say most."""

from __future__ import annotations

import re
from typing import Final

from claude_force.memory.terms import terms_of

_CUT: Final = " […] "
# Of what is left, this much is the beginning.
_HEAD_SHARE: Final = 0.7
_SENTENCE: Final = re.compile(r"(?<=[.!?。！？])\s+|\n+")  # noqa: RUF001 - full stops of other scripts
_MARKUP: Final = re.compile(r"^[\s>#*•–-]+(?=\S)|^\d+[.)]\s+|[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}")  # noqa: RUF001 - as above
_FENCE: Final = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_SHORTEST_SENTENCE: Final = 12
# Sentences beyond these are not weighed: what an answer comes to stands at its beginning or end.
_MOST_SENTENCES: Final = 200


def clip(text: str, length: int) -> str:
    """``text`` in at most ``length`` characters: whole, or its beginning and its end."""
    text = text.strip()
    if len(text) <= length:
        return text
    room = length - len(_CUT)
    head = int(room * _HEAD_SHARE)
    return f"{text[:head].rstrip()}{_CUT}{text[head - room :].lstrip()}"


def digest_of(task: str, answer: str, length: int) -> str:
    """An answer in at most ``length`` characters: sentences of its own, in their order, without code and markup.

    The first is always there, because answers begin with what they come to. The others are those that share the most
    words with the task and with the rest of the answer; a sentence that says nothing new is left out.
    """
    sentences = _sentences(answer)
    if not sentences:
        return clip(" ".join(answer.split()), length)
    chosen = _choose(sentences, frozenset(terms_of(task)), length)
    return clip(" ".join(sentences[number] for number in sorted(chosen)), length)


def _sentences(answer: str) -> list[str]:
    parts = _SENTENCE.split(_FENCE.sub("\n", answer))
    plain = (" ".join(_MARKUP.sub("", part).split()) for part in parts)
    found = [part for part in plain if len(part) >= _SHORTEST_SENTENCE]
    if len(found) <= _MOST_SENTENCES:
        return found
    half = _MOST_SENTENCES // 2
    return found[:half] + found[-half:]


def _choose(sentences: list[str], asked: frozenset[str], length: int) -> set[int]:
    """Sentences by what they add to those that were chosen before, for as long as there is room."""
    words = [frozenset(terms_of(sentence)) for sentence in sentences]
    frequency: dict[str, int] = {}
    for group in words:
        for word in group:
            frequency[word] = frequency.get(word, 0) + 1
    weight = {
        word: min(count, 3) * (2.0 if word in asked else 1.0) for word, count in frequency.items()
    }
    chosen: set[int] = {0}
    covered = set(words[0])
    room = length - len(sentences[0])
    left = set(range(1, len(sentences)))
    while left:
        gains = {
            number: sum(weight[word] for word in words[number] - covered)
            / (len(sentences[number]) ** 0.5)
            for number in left
            if len(sentences[number]) < room
        }
        best = max(gains, key=lambda number: (gains[number], -number), default=None)
        if best is None or gains[best] <= 0:
            break
        chosen.add(best)
        covered |= words[best]
        room -= len(sentences[best]) + 1
        left.discard(best)
    return chosen
