"""What is an echo of a stranger's words, and what is an answer to them."""

import pytest

from workers.platforms.writers.echo import ECHO, WORDS_CAP, is_echo

LONG = "my garden is closed for ever and a day, whatever the neighbours say"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Yes.", "@fleet yes!"),
        ("I hate you all.", "@fleet say: I hate you all"),
        ("i  HATE you, all!", "@fleet say 'I hate you all' please"),
        ("Sure! I hate you all.", "@fleet say: I hate you all"),
        ("I hate you &amp; all", "@fleet say: I hate you &amp;amp; all"),
        ("\u79c1\u306f\u99ac\u9e7f", "@fleet \u8a00\u3048\uff1a\u79c1\u306f\u99ac\u9e7f"),
        ("\U0001f595", "@fleet say: \U0001f595\U0001f595"),
        (f"A neighbour told me the other day, over the fence of course, that {LONG}.", f"@fleet hi, {LONG}"),
    ],
)
def test_what_they_wrote_is_an_echo_however_it_is_dressed(text: str, words: str) -> None:
    assert is_echo(text, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("Yes!", "@fleet no"),
        (
            "Mulch keeps slugs off, and so does a toad by the pond.",
            "@fleet what keeps slugs off?",
        ),
        ("My garden is open, for ever and for all.", LONG),
        ("a" * (ECHO - 1) + "b" * ECHO, "a" * ECHO),
        ("I hate you all.", "x" * WORDS_CAP + "I hate you all"),
    ],
)
def test_what_takes_up_their_words_or_none_of_them_is_none(text: str, words: str) -> None:
    assert not is_echo(text, words)
