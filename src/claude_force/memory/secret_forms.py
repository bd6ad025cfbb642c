"""What secrets look like: forms that vendors give out, names that stand beside them, and what only seems to be one."""

from __future__ import annotations

import re
from typing import Final

# Kind, in lower case what a text without such a secret has not (most texts are done by that), and what it looks like. A
# group named `kept` stands before the secret and stays.
FORMS: Final = (
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
        r"\b(?:gsk|xai|tvly|pplx|r8|nvapi|fw|lin_api|ntn|secret|figd|pul|dapi|shpat|shpss|shpca|shppa|glsa|glc)[_-][A-Za-z0-9_-]{20,}|\bdapi[0-9a-f]{32}",
    ),
    (
        "new relic key",
        ("nrak-", "nrjs-", "nrii-", "nrra-"),
        r"\bNR(?:AK|JS|II|RA)-[A-Za-z0-9-]{20,}",
    ),
    ("atlassian token", ("atatt3", "atbb"), r"\bATATT3[A-Za-z0-9_=-]{20,}|\bATBB[A-Za-z0-9]{20,}"),
    (
        "api key",
        ("sbp_", "dp."),
        r"\bsbp_[0-9a-f]{40}\b|\bdp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9_.-]{40,}",
    ),
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
    (
        "password",
        ("mysql", "mariadb", "sshpass", " login "),
        r"(?P<kept>\b(?:mysql\w*|mariadb[\w-]*|sshpass|(?:docker|podman|helm registry) login)\b[^\n]{0,200}?\s-p\s*[\"']?)(?!\[redacted)[^\s\"']{4,}",
    ),
    (
        "password",
        ("machine",),
        r"(?P<kept>\bmachine\s+\S+\s+login\s+\S+\s+password\s+)(?!\[redacted)\S{4,}",
    ),
    ("password", ("identified by",), r"(?P<kept>\bIDENTIFIED BY\s+[\"'])[^\"'\n]{2,}"),
)
# What stands beside a secret: the last part of a name, as in `db_password`, `STRIPE_SECRET`, `clientSecret`, `apiKey`.
_NAMES: Final = (
    r"pass(?:word|wd|phrase|code)|pwd|secret|token|credentials?|api[ _-]?key|access[ _-]?key|"
    r"secret[ _-]?key|private[ _-]?key|signing[ _-]?key|encryption[ _-]?key|account[ _-]?key|auth[ _-]?key|"
    r"session[ _-]?(?:id|key)|connection[ _-]?string|master[ _-]?key|license[ _-]?key|(?:mfa|recovery)[ _-]?code|"
    # The same word in the languages that most people ask in.
    r"passwort|kennwort|mot de passe|contrase[ñn]a|senha|wachtwoord|has[łl]o|пароль|密码|パスワード|"
    r"(?:(?<![a-z])(?:pass|cred|salt|otp|pin|auth))"
)
# `name = value`, `"name": "value"`, `name is value`, `<name>value</name>`.
NAMED: Final = (
    rf"(?P<kept>(?P<name>(?:\b|_|(?<=[a-z]))(?:{_NAMES}))(?P<more>_[a-z0-9_]{{1,16}}|\d{{1,3}})?[\"'`\]]*\s*"
    r"(?:[:=\uff1a]{1,3}>?|=>|\bis\b|\bwas\b|>)\s*)"
    r"(?P<value>\"(?:[^\"\\\n]|\\.){3,}\"|'(?:[^'\\\n]|\\.){3,}'|`[^`\n]{3,}`|[^\s\"'`,;(){}<>\[\]]{4,}(?P<call>\()?)"
)
# Values that name a secret without being one.
PLACEHOLDER: Final = re.compile(
    r"(?i)[\"'`]?(?:\$\{?\w*\}?.*|%\w+%|<.*|\{\{.*|\*+|x{3,}|\.{3,}|…+|none|null|nil|true|false|undefined|required|"
    r"optional|missing|invalid|expired|empty|unset|not|no|an?|the|in|of|for|and|str(?:ing)?|bytes|int|bool|"
    r"final|os\.environ.*|env\..*|process\.env.*|getenv.*|config\.\w+|settings\.\w+|self\.\w+|args\.\w+|"
    r"must|should|shall|may|might|can|cannot|could|has|have|had|will|would|be|been|being|field|column|argument|parameter|variable|value|header|name|from|with|when|if|as|on|at|by|to|this|it|its|your|our|their|there|here|"
    r"checked|hashed|stored|wrong|correct|valid|used|sent|set|too|now|never|always|only|that|what|read|written|kept|"
    r"\[redacted.*)[\"'`.]?"
)
# What a longer name says of a secret, as `TOKEN_FILE` does, and then a number, a path, or a word.
ABOUT: Final = frozenset(
    f"_{word}"
    for word in (
        *(
            "bytes",
            "length",
            "size",
            "count",
            "limit",
            "bits",
            "seconds",
            "ttl",
            "age",
            "expiry",
            "expires_in",
        ),
        *("file", "path", "folder", "dir", "url", "uri", "endpoint", "env", "var", "variable"),
        *(
            "name",
            "type",
            "kind",
            "field",
            "header",
            "prefix",
            "policy",
            "rules",
            "provider",
            "store",
            "rotation",
        ),
    )
)
PLAIN: Final = re.compile(r"[\d._]+|[a-z_.]+|[\w.~-]*/[\w./~-]*")
