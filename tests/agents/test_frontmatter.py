from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from claude_force.agents.frontmatter import read_frontmatter, split_markdown
from claude_force.agents.plain_yaml import KNOWN_KEYS, BrokenPlainYaml, read_plain_yaml
from claude_force.agents.strict_yaml import StrictYamlError, read_strict_yaml

# Values in which YAML sees more than text, and the characters that make it do so.
TRICKY = [
    "true", "No", "ON", "null", "~", "1", "1.5", ".inf", "0x1f", "1e3", "12:30", "2026-11-22", "a: b", "a:b", "a:", "a #b",
    "a#b", "#a", "- a", "-a", "[a]", "{a: 1}", "&a b", "*a", "!a b", "| a", "> a", "%a", "@a", "`a`", "'a'", "'a''b'", '"a"',
    '"a\\n"', '"a" b', "'", '"', "a 'b' \"c\"", "a, b", "?", "? a", "=", "<<", "a\tb", "\ta", "a\x85b", "a\u2028b", "\ufeffa",
    "é", "a\xa0", "👩‍💻", "a ", " a", "  a  ", "", "y", "n", "http://x.y/z", "a::b", "a: ", "a :b", "a\x00", "---", "...", "a\x7f",
]  # fmt: skip
values = st.one_of(
    st.sampled_from(TRICKY),
    st.text(
        alphabet=st.sampled_from(
            "ab1 :#-'\"\\[]{},&*!|>%@`?.~=é👍\t\x85\ufeff\x01\u2029\u00ad\u200b"
        ),
        max_size=10,
    ),
    st.text(max_size=8),
    st.tuples(st.sampled_from("\"'"), st.text(max_size=8)).map(
        lambda pair: pair[0] + pair[1] + pair[0]
    ),
    st.lists(st.sampled_from(TRICKY), max_size=3).map(" ".join),
)
words = st.one_of(
    st.sampled_from(["Reads code", "a:b, c", "x: y", "No", "word ", "é—👩", 'isn\'t "so"']),
    st.text(alphabet=st.sampled_from("abN :'\"-,.[{&*!|>é👍"), max_size=10).map(
        lambda text: "w" + text
    ),
    st.text(alphabet=st.sampled_from("ab :#'-[{&*é👍"), max_size=10).map(lambda text: f'"{text}"'),
    st.text(alphabet=st.sampled_from('ab :#"-[{\\\\é👍'), max_size=10).map(
        lambda text: f"'{text}'"
    ),
    st.text(alphabet=st.characters(exclude_characters="\n\r"), max_size=8).map(
        lambda text: "w" + text
    ),
)
# Mostly what the fast path is for, sometimes one line of anything.
simple_lines = st.tuples(
    st.sampled_from(sorted(KNOWN_KEYS)),
    st.sampled_from([": ", ":  "]),
    st.one_of(words, words, words, values),
).map("".join)
odd_lines = st.one_of(
    st.tuples(
        st.sampled_from([*sorted(KNOWN_KEYS), "other", "true"]),
        st.sampled_from([": ", ":"]),
        values,
    ).map("".join),
    values,
)
headers = st.one_of(
    simple_lines,
    st.lists(simple_lines, min_size=1, max_size=4).map("\n".join),
    st.lists(st.one_of(simple_lines, odd_lines), max_size=4).map("\n".join),
)


def strict_yaml(header: str) -> object:
    return yaml.load(header, yaml.CSafeLoader)


@settings(max_examples=600, deadline=None)
@given(headers)
@example('name: a\ndescription: "x: y # z"\nmodel: inherit ')
@example("description: Use it. Triggers on: 'a', 'b'\nname: [")
@example("tools: a:b, c:d")
def test_what_the_fast_path_says_is_what_strict_yaml_says(header: str) -> None:
    fast = read_plain_yaml(header)
    if isinstance(fast, dict):
        assert strict_yaml(header) == fast
    elif isinstance(fast, BrokenPlainYaml):
        with pytest.raises((yaml.YAMLError, ValueError)):
            strict_yaml(header)


@pytest.mark.parametrize(
    "value", ["true", "No", "null", "1", "2026-11-22", "a #b", "[a]", "&a b", '"a\\n"', "", "a:"]
)
def test_fast_path_declines_values_that_are_not_plain_text(value: str) -> None:
    assert read_plain_yaml(f"name: {value}") is None


@pytest.mark.parametrize(
    ("header", "fields"),
    [
        ("name: a-b\nmodel: sonnet", {"name": "a-b", "model": "sonnet"}),
        (
            'description: "a: b # c"\ntools: Read, Write',
            {"description": "a: b # c", "tools": "Read, Write"},
        ),
        ("description: 'say \"x\"'  ", {"description": 'say "x"'}),
        ("tools: Bash, x:y ", {"tools": "Bash, x:y"}),
    ],
)
def test_fast_path_reads_simple_lines(header: str, fields: dict[str, str]) -> None:
    assert read_plain_yaml(header) == fields


@settings(max_examples=300, deadline=None)
@given(st.one_of(headers, st.text(max_size=60)))
def test_no_frontmatter_makes_the_reader_raise(header: str) -> None:
    frontmatter = read_frontmatter(header)
    assert set(frontmatter.fields) <= set(KNOWN_KEYS)
    assert frontmatter.lenient == (frontmatter.problem is not None)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_no_text_makes_the_splitter_raise_or_keep_a_carriage_return(text: str) -> None:
    split = split_markdown(text)
    assert "\r" not in (split.header or "") + split.body


@pytest.mark.parametrize(
    ("text", "header", "body"),
    [
        ("---\nname: a\n---\nBody\n", "name: a", "Body\n"),
        ("---\r\nname: a\r\n---\r\nBody", "name: a", "Body"),
        ("\ufeff---\nname: a\n---\nBody", "name: a", "Body"),
        ("---\nname: a\n---", "name: a", ""),
        ("--- \nname: a\n---\t\nBody\n---\nmore", "name: a", "Body\n---\nmore"),
        ("---\n---\nBody", "", "Body"),
        ("---\n\n---\nBody", "", "Body"),
        ("# Title\n---\nx\n---\n", None, "# Title\n---\nx\n---\n"),
        ("----\nname: a\n---\n", None, "----\nname: a\n---\n"),
        ("", None, ""),
    ],
)
def test_file_is_split_at_the_first_two_marks(text: str, header: str | None, body: str) -> None:
    split = split_markdown(text)
    assert (split.header, split.body, split.unterminated) == (header, body, False)


@pytest.mark.parametrize("text", ["---", "---\n", "---\nname: a\n", "---\nname: a\n ---\n"])
def test_unterminated_frontmatter_is_told(text: str) -> None:
    assert split_markdown(text).unterminated


def test_blank_lines_before_the_frontmatter_are_told() -> None:
    split = split_markdown("\n \n---\nname: a\n---\nBody")
    assert (split.header, split.late) == ("name: a", True)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("a: &x [1]\nb: *x", "aliases"),
        ("name: a\nname: b", "twice"),
        ("a: " + "[" * 40 + "]" * 40, "deeper than 32"),
        ("a: " + "[" * 100_000, "deeper than 32"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: 2026-99-99", "cannot be read"),
        ("a: !!bool maybe", "cannot be read"),
        ("a: !!int x", "cannot be read"),
        ("- a\n- b", "not a list of `key: value` lines"),
        ("1: a", "not a list of `key: value` lines"),
        ("name: [a", "line"),
        ("a: " + "9" * 5000, "cannot be read"),
    ],
)
def test_strict_yaml_refuses_in_one_line(header: str, reason: str) -> None:
    with pytest.raises(StrictYamlError, match=reason) as caught:
        read_strict_yaml(header)
    assert "\n" not in str(caught.value)


def test_strict_yaml_reads_lists_blocks_and_types() -> None:
    header = "name: a\ndescription: >-\n  two\n  lines\ntools: [Read, 'Agent(x)']\nmaxTurns: 3\nbackground: true"
    assert read_frontmatter(header).fields == {
        "name": "a",
        "description": "two lines",
        "tools": ["Read", "Agent(x)"],
        "maxTurns": 3,
        "background": True,
    }


def test_unknown_key_of_valid_yaml_is_told() -> None:
    frontmatter = read_frontmatter("name: a\nversion: 1.0")
    assert frontmatter.fields == {"name": "a"}
    assert frontmatter.notes == ("the key 'version' is unknown and is left out",)


def test_lenient_rule_reports_everything_it_leaves_out() -> None:
    frontmatter = read_frontmatter("title: x: y\nname: a\nversion: 1\ndescription: b: c\nname: d")
    assert frontmatter.fields == {"name": "a", "description": "b: c"}
    assert frontmatter.notes == (
        "line 2 stands before the first known key and is left out",
        "line 6: `name` stands there again; its first value is used",
        "line 4: does not belong to `name`, which is one line, and is left out",
    )


@pytest.mark.parametrize(
    ("written", "tools"),
    [
        ("tools: Read, Write", "Read, Write"),
        ("tools:\n- Read\n- 'Write'", ["Read", "Write"]),
        ('tools: [Read, "Write"]', "Read, Write"),
    ],
)
def test_lenient_rule_reads_lists(written: str, tools: object) -> None:
    assert read_frontmatter(f"description: a: b\n{written}").fields["tools"] == tools


def test_lenient_rule_reads_block_text_and_quotes() -> None:
    fields = read_frontmatter(
        'description: |\n  one: two\n  three\nmodel: "opus"\nname: a: b'
    ).fields
    assert fields == {"description": "one: two\nthree", "model": "opus", "name": "a: b"}
