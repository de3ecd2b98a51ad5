"""Whom and what a text names, as X reads it: mentions, hashtags, cashtags, without their sign and in order.

For texts that came without entities. Where X gave them, a `Post` has them, and X's word counts.
"""

import re
import unicodedata
from collections.abc import Iterator

from workers.platforms import post_text

MENTION = re.compile(
    r"(?:(?<![A-Za-z0-9_!#$%&*@\uff20])|(?<![A-Za-z0-9_+~.\-])(?:[Rr][Tt]:?))"
    r"[@\uff20]([A-Za-z0-9_]{1,20}+)"
    r"(?![@\uff20\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f]|://|/[A-Za-z])"  # a list's name, an accent, a host
)
HASHES = "#\uff03"
NO_TAG_BEFORE = "&/"  # an escape's or a link's
KEYCAPS = ("\ufe0f", "\u20e3")  # emoji that are drawn with the sign
TIES = frozenset(
    "_\u200c\u200d\u00b7\u05be\u05f3\u05f4\u0f0b\u0f0c\u3003\u301c\u309b\u309c\u30a0\u30fb\ua67e\uff5e"
)
"""What stands within words of one script or another: joiners, middle dots, marks of abbreviation."""


def mentions(text: str) -> list[str]:
    """The usernames that `text` names, as they are written."""
    return MENTION.findall(text)


def hashtags(text: str) -> list[str]:
    """The hashtags in `text`."""
    return list(_hashtags(text))


def cashtags(text: str) -> list[str]:
    """The cashtags in `text`."""
    return [tag.removeprefix("$") for tag in post_text.cashtags(text)]


def _hashtags(text: str) -> Iterator[str]:
    position = 0
    while position < len(text):
        if text[position] not in HASHES or (position and _keeps_apart(text[position - 1])):
            position += 1
            continue
        end = position + 1
        while end < len(text) and _is_of_a_word(text[end]):
            end += 1
        tag = text[position + 1 : end]
        follows = text[end : end + 3]
        if (
            any(unicodedata.category(letter)[0] in "LM" for letter in tag)
            and not tag.startswith(KEYCAPS)
            and follows[:1] not in {*HASHES}
            and follows != "://"
        ):
            yield tag
        position = end


def _is_of_a_word(letter: str) -> bool:
    category = unicodedata.category(letter)
    return category[0] in "LM" or category == "Nd" or letter in TIES


def _keeps_apart(before: str) -> bool:
    """Whether a sign after this letter opens no tag; an emoji's variant is no letter of a word."""
    return before in NO_TAG_BEFORE or (_is_of_a_word(before) and before not in {"\ufe0e", "\ufe0f"})
