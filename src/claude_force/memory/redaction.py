"""Takes secrets out of text before it is kept, and before it is sent again.

Every rule names what it is for. Rules of a known form (a vendor's prefix) come first, then those that go by the name
beside the value (``password = …``), then values that look drawn at random. What is taken out leaves a mark,
``[redacted: kind]``, so that a reader knows that something was there. Leaning to too much: a redacted commit id costs a
word of a memory, a kept key costs an account.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cache
from typing import Final, NamedTuple


class Redacted(NamedTuple):
    """A text without its secrets."""

    text: str
    # How many were taken out.
    secrets: int


# Kind, in lower case what a text without such a secret has not (most texts are done by that), and what it looks like. A
# group named `kept` stands before the secret and stays.
_FORMS: Final = (
    (
        "private key",
        ("-----begin",),
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?:.*?-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|.*)",
    ),
    ("private key", ("putty-user",), r"PuTTY-User-Key-File-\d[\s\S]*?Private-MAC: \S+"),
    ("anthropic key", ("sk-ant-",), r"\bsk-ant-[A-Za-z0-9_-]{8,}"),
    ("api key", ("sk-",), r"\bsk-(?:proj-|svcacct-|admin-|or-v1-)?[A-Za-z0-9_-]{20,}"),
    (
        "github token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"\b(?:gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{20,})",
    ),
    (
        "gitlab token",
        ("gl",),
        r"\bgl(?:pat|ptt|rt|dt|cbt|soat|imt|agent|ft|feed|oas)-[A-Za-z0-9_.-]{16,}",
    ),
    (
        "aws key id",
        ("a3t", "akia", "asia", "abia", "acca", "aroa", "aida", "agpa", "anpa", "anva", "aipa"),
        r"\b(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA|AROA|AIDA|AGPA|ANPA|ANVA|AIPA)[A-Z0-9]{16}\b",
    ),
    ("google key", ("aiza",), r"\bAIza[A-Za-z0-9_-]{30,}"),
    (
        "google token",
        ("ya29.", "gocspx-"),
        r"\bya29\.[A-Za-z0-9_-]{20,}|\bGOCSPX-[A-Za-z0-9_-]{20,}",
    ),
    (
        "slack token",
        ("xox", "xapp-"),
        r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-\d-[A-Za-z0-9-]{10,}",
    ),
    (
        "webhook",
        ("hooks.slack.com",),
        r"https://hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/_+-]{20,}",
    ),
    (
        "webhook",
        ("/api/webhooks/",),
        r"https://(?:\w+\.)?discord(?:app)?\.com/api/webhooks/\d+/[A-Za-z0-9_-]{20,}",
    ),
    ("webhook", ("webhook.office.com",), r"https://[\w.-]+\.webhook\.office\.com/\S{20,}"),
    ("discord token", (".",), r"\b[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}"),
    ("telegram token", (":aa",), r"\b\d{8,10}:AA[A-Za-z0-9_-]{33}\b"),
    (
        "stripe key",
        ("k_live_", "k_test_", "whsec_"),
        r"\b(?:[rs]k|pk)_(?:live|test)_[A-Za-z0-9]{10,}|\bwhsec_[A-Za-z0-9+/=]{16,}",
    ),
    ("square token", ("sq0", "eaaa"), r"\bsq0[a-z]{3}-[A-Za-z0-9_-]{20,}|\bEAAA[A-Za-z0-9_-]{56,}"),
    ("twilio key", ("sk", "ac"), r"\b(?:SK|AC)[0-9a-fA-F]{32}\b"),
    ("sendgrid key", ("sg.",), r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
    ("mailgun key", ("key-",), r"\bkey-[0-9a-zA-Z]{32}\b"),
    ("mailchimp key", ("-us",), r"\b[0-9a-f]{32}-us\d{1,2}\b"),
    (
        "package token",
        ("npm_", "pypi-", "rubygems_"),
        r"\bnpm_[A-Za-z0-9]{30,}|\bpypi-[A-Za-z0-9_-]{30,}|\brubygems_[0-9a-f]{40,}",
    ),
    (
        "package token",
        ("cio", "dckr_pat_", "akcp", "oy2"),
        r"\b(?:cio|dckr_pat_)[A-Za-z0-9_-]{24,}|\bAKCp[A-Za-z0-9]{10,}|\boy2[a-z0-9]{43}\b",
    ),
    ("hugging face token", ("hf_", "api_org_"), r"\b(?:hf|api_org)_[A-Za-z0-9]{30,}"),
    (
        "cloud token",
        ("_v1_", "fo1_", "flyv1"),
        r"\bdo[opr]_v1_[0-9a-f]{40,}|\bdop_v1_\w+|\bfo1_[\w-]{40,}|\bFlyV1 \S{40,}",
    ),
    (
        "vault token",
        ("hvs.", "hvb.", "hvr.", "s.", ".atlasv1."),
        r"\b(?:hv[sbr]\.[A-Za-z0-9_-]{24,}|s\.[A-Za-z0-9]{24}\b)|\b\w{14}\.atlasv1\.[\w-]{40,}",
    ),
    (
        "api key",
        (
            "gsk",
            "xai",
            "tvly",
            "pplx",
            "r8",
            "nvapi",
            "fw",
            "lin_api",
            "ntn",
            "secret",
            "figd",
            "pul",
            "dapi",
            "shp",
            "glsa",
            "glc",
        ),
        r"\b(?:gsk|xai|tvly|pplx|r8|nvapi|fw|lin_api|ntn|secret|figd|pul|dapi|shpat|shpss|shpca|shppa|glsa|glc)[_-][A-Za-z0-9_-]{20,}",
    ),
    (
        "new relic key",
        ("nrak-", "nrjs-", "nrii-", "nrra-"),
        r"\bNR(?:AK|JS|II|RA)-[A-Za-z0-9-]{20,}",
    ),
    ("atlassian token", ("atatt3", "atbb"), r"\bATATT3[A-Za-z0-9_=-]{20,}|\bATBB[A-Za-z0-9]{20,}"),
    ("age key", ("age-secret-key",), r"\bAGE-SECRET-KEY-1[0-9A-Z]{50,}"),
    ("ibm key", ("p-",), r"\bp-[A-Za-z0-9]{8}-[0-9a-f-]{36}-[A-Za-z0-9]{20,}"),
    ("signed token", ("eyj",), r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)?"),
    (
        "azure key",
        ("accountkey", "sharedaccesskey", "sharedsecret"),
        r"(?P<kept>(?:AccountKey|SharedAccessKey|SharedSecret)\s*=\s*)[A-Za-z0-9+/=]{16,}",
    ),
    (
        "signature",
        ("=",),
        r"(?P<kept>[?&](?:sig|signature|X-Amz-Signature|X-Amz-Security-Token|access_token|token|api_?key|key)=)[^\s&\"'<>]{8,}",
    ),
    (
        "password",
        ("://",),
        r"(?P<kept>\b[a-zA-Z][\w+.-]{1,20}://[^\s:/@\"'<>]*:)[^\s/@\"'<>]+(?=@)",
    ),
    (
        "authorization",
        ("authorization", "api-key", "auth-token", "cookie"),
        r"(?P<kept>\b(?:authorization|proxy-authorization|x-api-key|api-key|x-auth-token|cookie|set-cookie)[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|token|digest|negotiate|apikey)\s+)?)[^\s\"',;]{4,}(?:; ?[^\s\"']+)*",
    ),
    ("authorization", ("bearer",), r"(?P<kept>\bbearer\s+)[A-Za-z0-9_.~+/=-]{16,}"),
    (
        "password",
        ("-u", "--user", "--pass", "--token", "--secret", "--api"),
        r"(?P<kept>(?:^|\s)(?:-u|--user|--password|--passwd|--token|--secret|--api-key|--apikey|--pass)[= ]\s*[\"']?)(?!\[redacted)[^\s\"']{4,}",
    ),
    ("password", ("identified by",), r"(?P<kept>\bIDENTIFIED BY\s+[\"'])[^\"'\n]{2,}"),
)
# What stands beside a secret: the last part of a name, as in `db_password`, `STRIPE_SECRET`, `clientSecret`, `apiKey`.
_NAMES: Final = (
    r"pass(?:word|wd|phrase|code)?|pwd|secret|token|credentials?|cred|api[ _-]?key|apikey|access[ _-]?key|"
    r"secret[ _-]?key|private[ _-]?key|signing[ _-]?key|encryption[ _-]?key|account[ _-]?key|auth[ _-]?key|"
    r"client[ _-]?secret|access[ _-]?token|refresh[ _-]?token|session[ _-]?(?:id|key|token)|connection[ _-]?string|"
    r"master[ _-]?key|license[ _-]?key|salt|otp|mfa[ _-]?code|recovery[ _-]?code|pin"
)
# `name = value`, `"name": "value"`, `name is value`, `<name>value</name>`.
_NAMED: Final = (
    rf"(?P<kept>(?:\b|_|(?<=[a-z]))(?:{_NAMES})[A-Za-z0-9_]{{0,12}}[\"'`\]]*\s*"
    r"(?:[:=]{1,3}>?|=>|\bis\b|\bwas\b|>)\s*)"
    r"(?P<value>\"(?:[^\"\\\n]|\\.){3,}\"|'(?:[^'\\\n]|\\.){3,}'|`[^`\n]{3,}`|[^\s\"'`,;(){}<>\[\]]{4,})"
)
# Values that name a secret without being one.
_PLACEHOLDER: Final = re.compile(
    r"(?i)[\"'`]?(?:\$\{?\w*\}?.*|%\w+%|<.*|\{\{.*|\*+|x{3,}|\.{3,}|…+|none|null|nil|true|false|undefined|required|"
    r"optional|missing|invalid|expired|empty|unset|not|no|an?|the|in|of|for|and|str(?:ing)?|bytes|int|bool|"
    r"os\.environ.*|env\..*|process\.env.*|getenv.*|config\.\w+|settings\.\w+|self\.\w+|args\.\w+|"
    r"must|should|shall|may|might|can|cannot|could|has|have|had|will|would|be|been|being|field|column|argument|parameter|variable|value|header|name|from|with|when|if|as|on|at|by|to|this|it|its|your|our|their|there|here|"
    r"checked|hashed|stored|wrong|correct|valid|used|sent|set|too|now|never|always|only|that|what|read|written|kept|"
    r"\[redacted.*)[\"'`.]?"
)
_DRAWN: Final = re.compile(r"(?<![\w/+=.@-])[A-Za-z0-9+/_=-]{24,}(?![\w@])")
_LONG_HEX: Final = re.compile(r"(?<![\w-])(?:0x)?[0-9a-fA-F]{48,}(?![\w-])")
# Bits a character: English words and identifiers lie below 3.9, base64 of random bytes of this length above 4.1.
_DRAWN_BITS: Final = 4.0
# Two or three are enough for any text that was not made to need more.
_MOST_PASSES: Final = 20


def redact(text: str) -> Redacted:
    """``text`` with a mark in the place of each secret. Redacting twice changes nothing more."""
    secrets = 0
    # What was hidden behind one secret can show when that is gone, as in `password = token = …`.
    for _ in range(_MOST_PASSES):
        text, found = _redact_once(text)
        secrets += found
        if not found:
            break
    return Redacted(text, secrets)


def _redact_once(text: str) -> Redacted:
    secrets = 0
    folded = text.lower()
    for kind, needles, pattern in _forms():
        if any(needle in folded for needle in needles):
            text, found = _replace(pattern, kind, text)
            secrets += found
    text, found = _replace(_named(), "named value", text)
    secrets += found
    for pattern in (_LONG_HEX, _DRAWN):
        text, found = _replace(pattern, "random value", text)
        secrets += found
    return Redacted(text, secrets)


def _replace(pattern: re.Pattern[str], kind: str, text: str) -> Redacted:
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        kept = match.groupdict().get("kept") or ""
        if _is_harmless(pattern, kept, match[0][len(kept) :]):
            return match[0]
        count += 1
        return f"{kept}[redacted: {kind}]"

    return Redacted(pattern.sub(replace, text), count)


def _is_harmless(pattern: re.Pattern[str], kept: str, value: str) -> bool:
    if value.lstrip("\"'`").startswith("[redacted"):
        return True
    if pattern is _DRAWN:
        return not _looks_drawn(value)
    if pattern is _named():
        counts = "tokens" in kept.lower() and value.isdigit()
        return counts or _PLACEHOLDER.fullmatch(value) is not None
    return False


@cache
def _forms() -> tuple[tuple[str, tuple[str, ...], re.Pattern[str]], ...]:
    """Compiled when the first text comes: it takes milliseconds."""
    case = {"authorization", "password", "signature", "azure key"}
    return tuple(
        (kind, needles, re.compile(form, re.DOTALL | (re.IGNORECASE if kind in case else 0)))
        for kind, needles, form in _FORMS
    )


@cache
def _named() -> re.Pattern[str]:
    return re.compile(_NAMED, re.IGNORECASE)


def _looks_drawn(value: str) -> bool:
    """Letters of both cases and digits, mixed, with the entropy of random characters."""
    kinds = sum(
        any(test(character) for character in value)
        for test in (str.isupper, str.islower, str.isdigit)
    )
    if kinds < 3 or value.count("/") > 3 or value.count("_") > 3 or value.count("-") > 4:
        return False
    counts = Counter(value).values()
    bits = -sum(count / len(value) * math.log2(count / len(value)) for count in counts)
    return bits >= _DRAWN_BITS
