"""What two tasks must agree in, however similar they are. Pure.

The mean of word vectors hardly moves where a word turns the meaning: a number, a negation, a name, who does what to
whom. So both tasks must ask for the same kind of thing, and every word that says something must be in both, in the
same order. The vectors choose which of thousands of tasks is looked at, the most similar first.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from claude_force.cache.semantic.reading import FORM_MARK, read_tasks

if TYPE_CHECKING:
    from claude_force.cache.semantic.reading import Reading


def disagreement(asked: str, answered: str) -> str | None:
    """What the tasks differ in that forbids to answer one with the other; None where nothing does."""
    one, two = read_tasks(asked, answered)
    if all(word[0] == FORM_MARK for word in one.words):
        return "everything: nothing is left of the task that could be compared"
    if one == two:
        return None
    for what, mine, theirs in (
        ("quoted text", one.quoted, two.quoted),
        ("numbers", one.numbers, two.numbers),
        ("negations", one.negations, two.negations),
        ("the kind of question", one.kinds, two.kinds),
    ):
        if mine != theirs:
            return what
    return _words_that_differ(one, two)


def _words_that_differ(one: Reading, two: Reading) -> str:
    mine, theirs = Counter(one.words), Counter(two.words)
    differing = [*(mine - theirs), *(theirs - mine)]
    words = [word for word in differing if word[0] != FORM_MARK]
    if words:
        return f"words: {', '.join(words)}"
    return "forms of verbs" if differing else "the order of words"
