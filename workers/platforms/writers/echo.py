"""Echo: whether a text says what a stranger wrote, which is how they would make the account say it.

Letters, digits and symbols count; case, spaces and punctuation don't. The same in other words is no echo:
against that stands the model's task alone.
"""

import unicodedata
from difflib import SequenceMatcher

from workers.platforms.writers.writer import likeness

WORDS_CAP = 1000
"""Characters of theirs that a model is given, and that are compared."""
ECHO = 30
"""Letters in a row that no text shares by chance with what it answers."""


def is_echo(text: str, words: str) -> bool:
    """Whether a long piece of the text, or more than half of it, stands in the words."""
    said, theirs = _bare(text), _bare(words[:WORDS_CAP])
    shared = SequenceMatcher(None, said, theirs, autojunk=False).find_longest_match().size
    return shared >= ECHO or 2 * shared > len(said)


def _bare(text: str) -> str:
    return "".join(letter for letter in likeness(text) if unicodedata.category(letter)[0] in "LMNS")
