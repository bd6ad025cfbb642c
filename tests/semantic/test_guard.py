"""What keeps two tasks apart, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.cache.semantic.guard import disagreement

WORDS = st.text("bcdfghjklmnprtvw", min_size=5, max_size=8)
TASKS = st.lists(WORDS, min_size=2, max_size=8, unique=True)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("How do I reset my password?", "how can I reset my password"),
        ("How do I reset my password?", "What is the way to reset my password?"),
        ("What's the capital of France?", "Tell me the capital of France."),
        ("What is 15% of 80?", "Calculate 15% of 80."),
        ("How do I turn on two-factor login?", "How can I activate two-factor login?"),
        ("How do I delete a branch?", "How do I remove branches?"),
        ("Why do cats purr?", "What is the reason that cats purr?"),
        ("What is the guest network's password?", "What is the password of the guest network?"),
        ("Restart nginx without downtime.", "Restart nginx with no downtime."),
        ("Is the client able to call the server?", "Can the client call the server?"),
        ("Write a regex with `a+b`", "Write a regular expression with `a+b`"),
        ("Is it open on mondays?", "Is it open on a monday"),
        ("Wie setze ich mein Passwort zurück?", "wie setze ich mein Passwort zurück"),
    ],
)
def test_other_ways_to_ask_the_same_pass(asked: str, answered: str) -> None:
    assert disagreement(asked, answered) is None


@pytest.mark.parametrize(
    ("asked", "answered", "reason"),
    [
        ("What is 15% of 80?", "What is 15% of 90?", "numbers"),
        ("What is 15% of 80?", "What is 80% of 15?", "numbers"),
        ("Roll back to 2.1", "Roll back to 2.10", "numbers"),
        ("Is 5 > 3?", "Is 5 < 3?", "words: >, <"),
        ("Are dogs allowed?", "Are dogs not allowed?", "negations"),
        ("Are dogs allowed?", "Aren't dogs allowed?", "negations"),
        ("Can I drive with a licence?", "Can I drive without a licence?", "negations"),
        ('Translate "good morning"', 'Translate "good evening"', "quoted text"),
        ("Translate `Cat`", "Translate `cat`", "quoted text"),
        ("Who built it in Rome?", "When was it built in Rome?", "the kind of question"),
        ("How do I cancel?", "Can I cancel?", "the kind of question"),
        ("This is a test", "What is a test?", "the kind of question"),
        ("How many users pay?", "How often users pay?", "the kind of question"),
        ("From India to Japan?", "From Japan to India?", "the order of words"),
        ("Is Rust faster than Go?", "Is Go faster than Rust?", "the order of words"),
        ("Is Rust faster than Go?", "Is Rust slower than Go?", "words: faster, slower"),
        ("Set it to 30 seconds", "Set it to 30 minutes", "words: seconds, minutes"),
        ("Fix parse_config", "Fix parse_configs", "words: parse_config, parse_configs"),
        ("Can you cancel my plan?", "Can I cancel my plan?", "words: you, i"),
        ("Does the dog bite?", "Can the dog bite?", "forms of verbs"),
        ("Which users are invited?", "Which users were invited?", "forms of verbs"),
        ("Which users are invited?", "Which users are inviting?", "words: invited, inviting"),
        ("Call the US office", "Call us, the office", "words: US, us"),
        ("What is pandas?", "What is a panda?", "words: pandas, panda"),
        ("How do I leave Teams?", "How do I leave a team?", "words: Teams, team"),
        ("Is this the way to Rome?", "Is this Rome?", "the kind of question"),
        ("How do I remove rust?", "How do I remove Rust?", "words: rust, Rust"),
        ("How much is each user?", "How much is all users?", "words: each, all"),
        ("Who sets the price?", "Who set the price?", "words: sets, set"),
        ("What is the number of the bus?", "How many buses are there?", "the kind of question"),
        ("What does the valve do?", "What are valves?", "words: do"),
        ("What is 5!?", "What is 5?", "numbers"),
        ("What is .5?", "What is 5?", "numbers"),
        ("What is \u20135?", "What is 5?", "numbers"),
        ("What is (2 + 3) * 4?", "What is 2 + (3 * 4)?", "numbers"),
        ("How does it stop?", "How do I stop?", "words: it"),
        (
            "Which dogs that can bark bite?",
            "Which dogs that bark can bite?",
            "the order of words",
        ),
        ("Rufe Anna an", "Rufe Anna", "words: an"),
        ("Is het rood of blauw?", "Is het rood blauw?", "words: of"),
        ("Voos do Brasil", "Voos Brasil", "words: do"),
        ("Copy the disk A to disk B", "Copy the disk B to disk A", "the order of words"),
    ],
)
def test_what_turns_the_meaning_keeps_apart(asked: str, answered: str, reason: str) -> None:
    assert disagreement(asked, answered) == reason


@pytest.mark.parametrize("task", ["", "?", "What is?", "Who was the?", "Please!"])
def test_a_task_of_nothing_but_small_words_agrees_with_none(task: str) -> None:
    assert disagreement(task, task) is not None


@given(TASKS)
def test_a_task_agrees_with_itself_whatever_its_punctuation(words: list[str]) -> None:
    task = " ".join(words)
    assert disagreement(task, f"  {task.capitalize()}?! ") is None


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_two_texts_are_read_alike_from_both_sides(one: str, two: str) -> None:
    assert (disagreement(one, two) is None) == (disagreement(two, one) is None)


@given(TASKS, st.data())
def test_no_word_may_change(words: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(words) - 1))
    other = data.draw(WORDS.filter(lambda word: word not in words))
    changed = [*words[:place], other, *words[place + 1 :]]
    assert disagreement(" ".join(words), " ".join(changed)) is not None


@given(TASKS, st.data())
def test_no_word_may_be_added(words: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(words)))
    other = data.draw(WORDS)
    added = [*words[:place], other, *words[place:]]
    assert disagreement(" ".join(words), " ".join(added)) is not None


@given(TASKS, st.data())
def test_no_two_words_may_change_places(words: list[str], data: st.DataObject) -> None:
    one, two = data.draw(
        st.lists(st.integers(0, len(words) - 1), min_size=2, max_size=2, unique=True)
    )
    swapped = list(words)
    swapped[one], swapped[two] = words[two], words[one]
    assert disagreement(" ".join(words), " ".join(swapped)) == "the order of words"


@given(TASKS, st.data())
def test_no_negation_may_be_added(words: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(words)))
    negation = data.draw(st.sampled_from(["not", "no", "never", "without", "isn't"]))
    negated = [*words[:place], negation, *words[place:]]
    assert disagreement(" ".join(words), " ".join(negated)) is not None


@given(TASKS, st.integers(0, 10**9), st.integers(0, 10**9))
def test_numbers_are_the_same_only_when_they_are_equal(
    words: list[str], one: int, two: int
) -> None:
    task = " ".join(words)
    found = disagreement(f"{task} {one}", f"{task} {two}")
    assert found == (None if one == two else "numbers")
