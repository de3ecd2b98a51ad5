"""A post's text: what X accepts, how long it counts it, and when two texts are the same.

PostTextError      X would refuse the text; change what the message names
"""

import html
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from workers.platforms.weighing import urls, weighted_length

__all__ = ["Link", "PostTextError", "canonical", "cashtags", "check", "is_media", "urls", "weighted_length"]

WEIGHTED_CAP = 280
CHARACTERS_CAP = 4096
DOTS_CAP = WEIGHTED_CAP
BEYOND_ASCII_CAP = 1400
"""Above these nothing is weighed, for it would take seconds.

Only links weigh less than their letters, and X takes none above 4096. A dot weighs 1, or is a link's, where
23 outweigh the dots there are. Beyond ASCII, 140 emoji joined of ten code points each are the most.
"""
CHAIN = re.compile(r"(?:[^\s./]{1,63}\.){60}")
"""`a.a.a.a`: weighing takes the cube of its length, and no host has so many labels."""
CASHTAG_CAP = 1
VISIBLE_CONTROLS = frozenset("\n\t")
SPACES = r"\s\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
PUNCTUATION = r"!'#%&()*+,\-./:;<=>?@\[\]^_{|}~$\\\""
CASHTAG = re.compile(
    rf"(?:^|(?<=[{SPACES}]))\$[a-z]{{1,6}}(?:[._][a-z]{{1,2}})?(?=$|[{SPACES}{PUNCTUATION}])", re.IGNORECASE
)
SCHEME = re.compile(r"\bhttps?://(\S+)", re.IGNORECASE)
MEDIA = re.compile(r"^(?:https?://)?pic\.(?:x|twitter)\.com/|/status/[0-9]+/(?:photo|video)/[0-9]+$")


class PostTextError(ValueError):
    """X would refuse this text.

    Attributes:
        problem: What is wrong, with the value.
        weighted_length: The text's length as X counts it; None where it can't be counted.
        allowed: What X accepts.
    """

    def __init__(self, problem: str, weighted_length: int | None, allowed: str) -> None:
        super().__init__(f"text: {problem}; allowed: {allowed}")
        self.problem = problem
        self.weighted_length = weighted_length
        self.allowed = allowed


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link in a text that X returned: `short` as it stands there, `expanded` as it was posted."""

    short: str
    expanded: str
    is_media: bool = False


def check(text: str) -> None:
    """Raise `PostTextError` unless X accepts `text` as an original post of a self-serve account."""
    _require_at_most("characters", len(text), CHARACTERS_CAP)
    for letter in text:
        if _is_forbidden(letter):
            allowed = "any character but control characters, lone surrogates and non-characters"
            raise PostTextError(f"has the character U+{ord(letter):04X}", None, allowed)
    _require_at_most("dots", text.count("."), DOTS_CAP)
    _require_at_most(
        "characters beyond ASCII", sum(not letter.isascii() for letter in text), BEYOND_ASCII_CAP
    )
    if len(text) > WEIGHTED_CAP and CHAIN.search(text):
        raise PostTextError(
            "has 60 words joined by dots", None, "fewer, in a text of more than 280 characters"
        )
    length = weighted_length(text)
    if not any(_is_visible(letter) for letter in text):
        raise PostTextError("is blank", length, "something to read")
    if length > WEIGHTED_CAP:
        raise PostTextError(f"has the weighted length {length}", length, f"1 to {WEIGHTED_CAP}")
    tags = cashtags(text)
    if len(tags) > CASHTAG_CAP:
        raise PostTextError(f"has {len(tags)} cashtags ({' '.join(tags)})", length, f"at most {CASHTAG_CAP}")


def cashtags(text: str) -> list[str]:
    """The cashtags in `text`, each with its dollar sign."""
    return CASHTAG.findall(text)


def canonical(text: str, links: Iterable[Link] | None = None) -> str:
    """The form in which a frozen text and what X returns for it are equal.

    X escapes HTML, shortens links to t.co and appends one for media. Given those `links`, they are
    expanded again and the media's left out; HTML is unescaped, Unicode composed (NFC), a link's
    scheme and last slash dropped, and whitespace around the text trimmed.
    """
    stands_for = {link.short: "" if link.is_media else link.expanded for link in links or ()}
    if (
        stands_for
    ):  # in one pass, the longest first: a link may begin another, or stand in what another stands for
        shorts = "|".join(re.escape(short) for short in sorted(stands_for, key=len, reverse=True))
        text = re.sub(shorts, lambda match: stands_for[match[0]], text)
    unescaped = html.unescape(text)
    while unescaped != text:  # a posted "&amp;" comes back escaped once more
        text, unescaped = unescaped, html.unescape(unescaped)
    text = unicodedata.normalize("NFC", text).replace("\r\n", "\n")
    return SCHEME.sub(lambda match: match[1].rstrip("/"), text).strip()


def is_media(expanded: str, display: str = "") -> bool:
    """Whether a link's expanded or displayed form is that of a post's own photo or video."""
    return bool(MEDIA.search(expanded) or MEDIA.search(display))


def _require_at_most(what: str, number: int, cap: int) -> None:
    if number > cap:
        raise PostTextError(f"has {number} {what}", None, f"at most {cap}")


def _is_forbidden(letter: str) -> bool:
    category = unicodedata.category(letter)
    is_noncharacter = ord(letter) & 0xFFFE == 0xFFFE  # noqa: PLR2004  the last two of each plane
    return (
        (category == "Cc" and letter not in VISIBLE_CONTROLS)
        or category == "Cs"
        or is_noncharacter
        or letter == "\ufeff"
    )


def _is_visible(letter: str) -> bool:
    return not letter.isspace() and unicodedata.category(letter) != "Cf"
