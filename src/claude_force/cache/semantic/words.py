"""English words by what they do in a question: the tables of the guard.

A word that is in no table has to be in both tasks. So what is missing here costs hits; only what is here too much can
make a wrong one. Other languages are in no table: there, tasks have to agree in every word.
"""

from __future__ import annotations

import re
from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Short forms and phrases, and what they are read as, in this order. They are looked for in lower-case text.
PHRASES: Final = tuple(
    (re.compile(rf"(?<![\w-])(?:{pattern})(?![\w'-])"), replacement)
    for pattern, replacement in (
        (r"(what|who|where|when|why|how|that|there|it|here|which)'s", r"\1 is"),
        (r"(?:can't|cannot)", "can not"),
        (r"won't", "will not"),
        (r"shan't", "shall not"),
        (r"(\w+)n't", r"\1 not"),
        (r"i'm", "i am"),
        (r"(\w+)'re", r"\1 are"),
        (r"(\w+)'ve", r"\1 have"),
        (r"(\w+)'ll", r"\1 will"),
        # Ways to ask, which say nothing of what is asked.
        (r"(?:can|could|would|will) you (?:please )?tell me", ""),
        (r"(?:please )?tell me(?= (?:the|an?|my) )", "what is"),
        (r"(?:please )?tell me", ""),
        (r"(?:calculate|compute|how much is)(?= \d)", "what is"),
        (r"i (?:want|need|would like) to know", ""),
        (r"do you know", ""),
        (r"would you say that", "does"),
        (r"is it possible to", "can i"),
        (r"is it possible for ((?:the |an? |my |your )?\w+(?: \w+)?) to", r"can \1"),
        (r"(?:am|are|is) ((?:the |an? |my |your )?\w+(?: \w+)?) able to", r"can \1"),
        (r"who is able to", "who can"),
        (r"what (?:are|is) the (?:steps|procedure|process|way|best way) (?:to|for)", "how"),
        (r"the (?:best )?way to", "how"),
        (r"what do (?:i|one) have to do to", "how"),
        (r"in (?:which|what) way", "how"),
        (r"how (?:do|does|can|could) (?:i|one)", "how"),
        (r"how to", "how"),
        (r"where (?:do|does|can|could) (?:i|one)(?= (?:find|get|buy|see) )", "where"),
        (r"what is the reason (?:that|why)", "why"),
        (r"for what reason", "why"),
        (r"at what times?", "when"),
        (r"what time", "when"),
        (r"(?:what|which) person", "who"),
        (r"what is the number of(?! (?:the|an?|my|your|our|this|that|which) )", "how many"),
        # Words that go together.
        (r"(?:turn|switch) on", "enable"),
        (r"(?:turn|switch) off", "disable"),
        (r"(?:sign|log) in", "login"),
        (r"(?:sign|log) out", "logout"),
        (r"at (?:most|maximum)", "maximum"),
        (r"at least", "minimum"),
        (r"regular expression", "regex"),
        (r"(?:have|has|need|needs) to", "must"),
        (r"with no", "without"),
        (r"as well as", "and"),
    )
)

# One word for those that mean the same wherever they stand.
SYNONYMS: Final = {
    word: words[0]
    for words in (
        ("delete", "remove", "erase"),
        ("enable", "activate"),
        ("disable", "deactivate"),
        ("buy", "purchase"),
        ("bought", "purchased"),
        ("start", "begin"),
        ("started", "began"),
        ("big", "large"),
        ("bigger", "larger"),
        ("biggest", "largest"),
        ("fast", "quick"),
        ("faster", "quicker"),
        ("fastest", "quickest"),
        ("fix", "repair"),
        ("picture", "photo", "image"),
        ("phone", "telephone"),
        ("movie", "film"),
        ("allow", "permit"),
        ("allowed", "permitted"),
        ("maximum", "max"),
        ("app", "application"),
        ("config", "configuration"),
        ("repo", "repository"),
        ("doc", "documentation"),
        ("info", "information"),
        ("email", "e-mail"),
        ("tv", "television"),
        ("kid", "child", "children"),
        ("regex", "regexp"),
        ("to", "into"),
    )
    for word in words
}

# Words without which a question asks the same. Forms of "be" and "have" count as forms, below.
FILLERS: Final = _words("a an the of do does please hello hi hey thanks kindly")
ARTICLES: Final = _words("a an the")

# What a question asks for; a task that has none of these is no question.
KINDS: Final = {
    "what": "thing",
    "which": "thing",
    "how": "manner",
    "who": "person",
    "whom": "person",
    "whose": "owner",
    "when": "time",
    "where": "place",
    "why": "reason",
}
# Behind "how" these make it a question of amount.
DEGREES: Final = _words(
    "many much long often far large big old fast high tall deep wide heavy late early soon slow quick hot cold good bad "
    "strong safe expensive"
)
# At the beginning these ask for yes or no.
AUXILIARIES: Final = _words(
    "is are am was were do does did can could may might will would should shall must has have had"
)
# At the beginning this asks to be told, as "what" and "which" do.
REQUESTS: Final = _words("list")

NEGATIONS: Final = _words("not no never without none nobody nothing neither nor")

# Whether something is, was, will be, has been, or may be: forms that both tasks must have, or neither.
FORMS: Final = {
    word: form
    for form, words in (
        ("is", "is are am be been being"),
        ("was", "was were"),
        ("did", "did"),
        ("has", "has have having had"),
        ("will", "will shall"),
        ("can", "can could may might"),
        ("would", "would"),
    )
    for word in words.split()
}

# One of these makes a text English, or two of those below; to all others none of these tables applies.
ENGLISH: Final = _words(
    "the are what what's which how who who's when where where's why does did this please with without from and tell than "
    "can can't cannot not should would you your don't doesn't didn't isn't aren't wasn't won't"
)

# Words that other languages have too, but hardly two of them in one sentence.
PERHAPS_ENGLISH: Final = _words("is it on my have has they be")

# Written like plurals, and something else than what they would be the plural of; and forms of verbs that without their
# "s" are of the past.
NO_PLURALS: Final = _words(
    "news goods customs arms glasses means works windows pandas rails jeans lens maths stats headquarters savings thanks "
    "premises grounds spirits minutes odds series species shorts trunks briefs colours colors contents damages forces "
    "funds heads letters manners papers pains quarters regards remains respects stairs times waters wages wits hits beats "
    "costs cuts puts sets reads lets shuts hurts bets bids bursts casts quits rids spreads splits sheds thrusts upsets "
    "forecasts broadcasts fits knits wets sweats weds"
)
