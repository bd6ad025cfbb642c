"""No secret that a rule knows is kept, and ordinary text is left alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from claude_force.memory.redaction import redact

# Made up, in the forms that vendors give out. Split, so that no scanner of this repository takes them for real ones.
A22 = "aB3dE5fG7hJ9kL1mN2pQ4r"
A36 = f"{A22}S6tU8vW0xY1zA3"
HEX32 = "0123456789abcdef0123456789abcdef"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\nq8Zk\n-----END RSA PRIVATE KEY-----"
SECRETS = {
    "anthropic": f"sk-ant-api03-{A36}-{A36}AA",
    "anthropic oauth": f"sk-ant-oat01-{A36}",
    "openai": f"sk-proj-{A36}{A36}",
    "openai old": f"sk-{A36}{A22}",
    "github": f"ghp_{A36}",
    "github app": f"ghs_{A36}",
    "github fine-grained": f"github_pat_{A22}_{A36}",
    "gitlab": f"glpat-{A22}",
    "aws id": "AKIA" + "IOSFODNN7EXAMPLE",
    "aws session id": "ASIA" + "IOSFODNN7EXAMPLE",
    "google": f"AIza{A36[:35]}",
    "google oauth": f"ya29.{A36}",
    "google client": f"GOCSPX-{A22}abcd",
    "slack": f"xoxb-123456789012-123456789012-{A22}",
    "slack app": f"xapp-1-A012345678-1234567890123-{HEX32}",
    "slack webhook": f"https://hooks.slack.com/services/T00000000/B00000000/{A22}",
    "discord webhook": f"https://discord.com/api/webhooks/123456789012345678/{A36}",
    "stripe": f"sk_live_{A22}",
    "stripe restricted": f"rk_test_{A22}",
    "stripe webhook": f"whsec_{A22}",
    "twilio": f"SK{HEX32}",
    "sendgrid": f"SG.{A22}.{A36}",
    "mailgun": f"key-{HEX32}",
    "mailchimp": f"{HEX32}-us12",
    "npm": f"npm_{A36}",
    "pypi": f"pypi-AgEIcHlwaS5vcmc{A36}",
    "hugging face": f"hf_{A36}",
    "digitalocean": f"dop_v1_{HEX32}{HEX32}",
    "vault": f"hvs.{A36}",
    "groq": f"gsk_{A36}",
    "xai": f"xai-{A36}",
    "linear": f"lin_api_{A36}",
    "databricks": f"dapi{HEX32}",
    "shopify": f"shpat_{HEX32}",
    "new relic": f"NRAK-{A22}ABCDE",
    "atlassian": f"ATATT3{A36}",
    "telegram": f"123456789:AA{A36[:33]}",
    "jwt": f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.{A36}",
    "supabase": f"sbp_{HEX32}01234567",
    "doppler": f"dp.pt.{A36}abcdefg",
    "age": "AGE-SECRET-KEY-1" + "QQPQ3GTZ6JDGPQ" * 4,
    "random base64": "kJ8f/2Lq9+ZtRw4vXc7bNm1aSd5gHj3Q",
    "random hex": f"{HEX32}fedcba9876543210",
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
@pytest.mark.parametrize(
    "text",
    ["use {} for now", "{}", "`{}`", 'key="{}",', "a\n{}\nb", "({})", "see {}."],
    ids=["prose", "alone", "code", "quoted", "line", "brackets", "sentence"],
)
def test_a_key_of_a_known_form_is_taken_out(text: str, secret: str) -> None:
    redacted = redact(text.format(secret))
    assert secret not in redacted.text
    assert secret[-12:] not in redacted.text
    assert "[redacted: " in redacted.text
    assert redacted.secrets >= 1


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("password = hunter22", "hunter22"),
        ("password: 'correct horse battery'", "correct horse battery"),
        ('{"db_password": "tr0ub4dor"}', "tr0ub4dor"),
        ("DB_PASSWORD=tr0ub4dor&3", "tr0ub4dor&3"),
        ("export STRIPE_SECRET='abc def'", "abc def"),
        ("the password is swordfish", "swordfish"),
        ("my api key was 12345-abcde", "12345-abcde"),
        ("apiKey: 'q1w2e3r4'", "q1w2e3r4"),
        ("client_secret => q1w2e3r4", "q1w2e3r4"),
        ('clientSecret := "q1w2e3r4"', "q1w2e3r4"),
        ("<password>q1w2e3r4</password>", "q1w2e3r4"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzzzzzzzzz", "wJalrXUtnFEMI"),
        ("refresh_token=1//0gabc", "1//0gabc"),
        ("postgres://app:s3cr3t@db.example:5432/shop", "s3cr3t"),
        ("redis://:s3cr3t@cache:6379", "s3cr3t"),
        ("https://user:p%40ss@example.com/x", "p%40ss"),
        ("Authorization: Bearer abcdef", "abcdef"),
        ("authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("-H 'x-api-key: abc-123'", "abc-123"),
        ("Cookie: session=abcdef; csrf=ghijkl", "ghijkl"),
        ("curl -u admin:letmein https://x.example", "letmein"),
        ("mysql --password=letmein -h db", "letmein"),
        ("CREATE USER app IDENTIFIED BY 'letmein'", "letmein"),
        ("DefaultEndpointsProtocol=https;AccountKey=abcdefghijklmnopqrstuv==;", "abcdefghijkl"),
        ("https://x.blob.core.windows.net/c?sv=2022&sig=abc%2Bdef%3D", "abc%2Bdef"),
        (f"here it is:\n{PEM}\nbye", "MIIEpAIBAAKCAQEA7"),
        (PEM[:60], "MIIEpAIBAAKCAQ"),
        (PEM.replace("RSA", "OPENSSH"), "q8Zk"),
        ("PASSWORD=HUNTER22", "HUNTER22"),
        ("passwd:hunter22", "hunter22"),
        ('passphrase = "open sesame"', "open sesame"),
        ("token=abcd1234", "abcd1234"),
        ("SECRET_KEY_BASE = 'a1b2c3d4'", "a1b2c3d4"),
        ("password_2: hunter22", "hunter22"),
        ("STRIPE_SECRET_PROD=a1b2c3", "a1b2c3"),
        ("DB_PASSWORD_PROD=hunter", "hunter"),
        ('DB_PASSWORD_FILE="hunter two"', "hunter two"),
        ("password: mypassword", "mypassword"),
        ("connect(password='hunter', user='bob')", "hunter"),
        ("mysql -u root -phunter22 shop", "hunter22"),
        ("sshpass -p hunter22 ssh db", "hunter22"),
        ("docker login -u bob -p hunter22", "hunter22"),
        ("machine db.example login bob password hunter22", "hunter22"),
        ("Passwort: hunter22", "hunter22"),
        ("contraseña = hunter22", "hunter22"),
        ("密码：hunter22", "hunter22"),  # noqa: RUF001 - the colon of that script
    ],
)
def test_a_value_beside_a_name_of_a_secret_is_taken_out(text: str, secret: str) -> None:
    assert secret not in redact(text).text


def test_what_stands_around_a_secret_stays() -> None:
    assert redact("connect to postgres://app:s3cr3t@db:5432/shop and list").text == (
        "connect to postgres://app:[redacted: password]@db:5432/shop and list"
    )
    assert redact("set GITHUB_TOKEN=abcd1234 first").text == (
        "set GITHUB_TOKEN=[redacted: named value] first"
    )


@pytest.mark.parametrize(
    "text",
    [
        "Review the token bucket in src/limits/bucket.py, it refills too fast.",
        "The password must have eight characters; the reset token is sent by mail.",
        "password: str = Field(min_length=8)",
        "api_key: str | None = None",
        "token = os.environ['TOKEN']",
        "secret = settings.secret",
        "The commit 218fce0a9d1b3c5e7f90a1b2c3d4e5f60718293a broke the build.",
        "See https://docs.example.com/guides/authentication/tokens?page=2#refresh",
        "src/claude_force/provider/prompt_cache/prefixes.py and test_keys_are_kept_for_a_while",
        "ThisIsARatherLongClassNameForAFactoryOfFactories",
        "550e8400-e29b-41d4-a716-446655440000 is the id of the order",
        "max_tokens=4096, input_tokens: 128, tokenizer = BPE",
        "Die Prüfung der Schlüssel ist grün.",
        "api keys are rotated each month",
        "client = Client(api_key=api_key, token=self._token, secret=read_secret())",
        "_SECRET_BYTES: Final = 32 and TOKEN_FILE = state/token",
        "pinned = pins(passing=3, passes=[1, 2]), bypass: Final = 1, spinning is fun",
        "The token_type is bearer; token_count=1200",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redact(text) == (text, 0)


@given(st.text(max_size=300))
@example("password = password = x1234")
@example(f"token=sk-ant-{A22} secret: [redacted: api key]")
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = redact(text).text
    assert redact(once).text == once


@given(
    st.text(max_size=40),
    st.sampled_from(sorted(SECRETS.values())),
    st.text(max_size=40),
)
def test_a_key_set_off_by_spaces_is_found_in_any_text(before: str, secret: str, after: str) -> None:
    assert secret not in redact(f"{before} {secret} {after}").text


@pytest.mark.parametrize(
    "unit", ["a", "password=", "-", "eyJ", "://a:", "A1b2", " ", "cookie: ;", "sk-", "mysql "]
)
def test_time_does_not_explode_with_hostile_text(unit: str) -> None:
    began = time.process_time()
    redact(unit * (16_000 // len(unit)))
    assert time.process_time() - began < 5
