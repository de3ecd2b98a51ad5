"""Searching: what X is asked for a topic."""

import re
from collections.abc import Sequence

WORDS_CAP = 8
"""Words of a topic that a search asks for: all must stand in a post, and more never do."""
SHORTEST_PLURAL = 4
"""Letters from which a word is searched in both numbers: "bus" has no singular "bu"."""
WORD = re.compile(r"[^\W_]+")
LANGUAGE = re.compile(r"[a-z]{2,3}")


def query_for(topic: str, languages: Sequence[str] = ()) -> str | None:
    """The search for a topic: all its words, in singular or plural; no reposts; the languages.

    Only letters and digits of the topic come through, each word between quotation marks: nothing in it can
    be an operator. None for a topic without any.
    """
    words = WORD.findall(topic)[:WORDS_CAP]
    if not any(letter.isalpha() for word in words for letter in word):
        return None
    parts = [_either(word) for word in words if any(letter.isalpha() for letter in word)]
    known = [code for code in languages if LANGUAGE.fullmatch(code)]
    spoken = " OR ".join(f"lang:{code}" for code in known)
    if spoken:
        parts.append(f"({spoken})" if len(known) > 1 else spoken)
    return " ".join([*parts, "-is:retweet"])


def _either(word: str) -> str:
    """A word in quotation marks, with its other number where it is a plain English one."""
    low = word.casefold()
    if not low.isascii() or len(low) < SHORTEST_PLURAL:
        return f'"{low}"'
    other = low[:-1] if low.endswith("s") and not low.endswith("ss") else f"{low}s"
    return f'("{low}" OR "{other}")'
