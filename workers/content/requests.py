"""Requests: what a post that speaks to the account asks for, by documented lists of phrases.

An opt-out is kept for ever and for the whole fleet, so it is decided here, by code, and never by a model.
It counts where it stands as an order: at the beginning of a clause, after nothing but polite words ("please",
"can you", "I want you to"). So "don't stop", "why did you stop replying?", "stop by our garden" and "full
stop" are none.
"""

import re
import unicodedata

SEEN = 2000
"""Characters that are looked at."""
POLITE = (
    r"(?:(?:please|pls|plz|hey|hi|hello|bot|just|ok|okay|so|and|kindly|now|seriously|thanks|no|enough|sorry|"
    r"can you|could you|would you|will you|you should|you must|"
    r"i want you to|i would like you to|i'd like you to|i want to|i would like to|i'd like to|i wish to)"
    r"[\s,]+)*"
)
THANKS = r"(?:[\s,]+(?:please|pls|now|bot|thanks|thank you|already|here|at once|immediately|forever))*"
TRAIL = rf"(?:[\s,]+(?:it|this|that|me))?{THANKS}"
BARE = (
    "stop",
    "unsubscribe",
    "opt out",
    "opt-out",
    "optout",
    "go away",
    "leave me alone",
    "shut up",
    "mute me",
)
"""Orders that are the whole of a message, or its first sentence."""
TO_ME = r" (?:to )?(?:me|my posts?|my tweets?|us)"
STOP = r"(?:stop|quit|cease)"
NEVER = r"(?:do not|don't|dont|never)(?: ever)?"
AGAIN = r"(?: again| any ?more| ever)*"
ORDERS = (
    rf"{STOP} (?:replying|responding|answering|messaging|mentioning|tagging|spamming|pinging)(?:{TO_ME})?",
    rf"{STOP} (?:writing|talking|bothering|contacting|quoting|following|texting|harassing){TO_ME}",
    rf"{STOP} (?:liking|reposting|retweeting|engaging with|interacting with){TO_ME}",
    r"i(?:'ve| have)? (?:already )?(?:asked|told) you to stop(?: \w+ing)?(?: (?:to )?me)?",
    rf"{NEVER} me{AGAIN}",  # "don't @ me": the sign is gone by then
    rf"{NEVER} (?:reply|respond)(?:{TO_ME})?{AGAIN}",
    rf"{NEVER} (?:answer|write|talk|message|mention|tag|bother|contact|quote|ping|follow){TO_ME}{AGAIN}",
    r"leave me alone",
    r"leave me out of (?:this|it)",
    r"(?:how (?:do|can) i )?unsubscribe(?: me)?",
    r"opt me out",
    r"take me off (?:your|the|this) list",
    r"remove me from (?:your|the|this) list",
    r"i (?:want to )?opt[ -]?out",
)
"""Orders that count wherever a clause is nothing but them."""
LOOKS = (
    r"check (?:this|that|it) out",
    r"check out",
    r"(?:have|take) a look",
    r"look at (?:this|that|it|the)",
    r"have you seen",
    r"did you see",
    r"see this",
    r"what do you (?:think|make) of",
    r"what do you think about (?:this|that|it)",
    r"what do you think\b(?! about)",
    r"thoughts (?:on|about) (?:this|that|it)",
    r"(?:any|your) thoughts",
    r"your (?:take|opinion|view) on (?:this|that|it)",
    r"(?:rate|analy[sz]e|review|judge) (?:this|that|it)",
)
"""What asks to look at a post."""

_SPACED = re.compile(r"(?<!\w)(?:\w ){3,}\w(?!\w)")  # s t o p
_BARE = re.compile(rf"{POLITE}(?:{'|'.join(map(re.escape, BARE))}){TRAIL}")
_ORDER = re.compile(rf"{POLITE}(?:{'|'.join(ORDERS)}){THANKS}")
_LOOK = re.compile(rf"\b(?:{'|'.join(LOOKS)})")
_CLAUSES = re.compile(r"[.!?,:;\n\u2026\u2014()]+|\s+-+\s+|\b(?:because|but)\b")


def asks_to_stop(text: str, *, whole: bool = True) -> bool:
    """Whether the words ask to be left alone.

    Args:
        text: the words without names and links.
        whole: whether a bare "stop" counts, which it does where the account was spoken to.
    """
    words = _plain(text)
    clauses = [clause.strip() for clause in _CLAUSES.split(words) if clause.strip()]
    if any(_ORDER.fullmatch(clause) for clause in clauses):
        return True
    if not whole or not clauses:
        return False
    first = re.split(r"[.!\n]", words, maxsplit=1)[0].strip(" ,:;-")
    return bool(_BARE.fullmatch(words.strip(" .,!:;-")) or _BARE.fullmatch(first))


def asks_to_look(text: str) -> bool:
    """Whether the words ask to look at a post."""
    return bool(_LOOK.search(_plain(text)))


def _plain(text: str) -> str:
    text = "".join(letter for letter in text[:SEEN] if unicodedata.category(letter) != "Cf")
    text = text.casefold().replace("\u2019", "'").replace("\u02bc", "'")
    text = _SPACED.sub(lambda spaced: spaced[0].replace(" ", ""), text)
    lines = (
        " ".join(re.sub(r"[^\w\s'.!?,:;()\u2026\u2014-]+", " ", line).split()) for line in text.splitlines()
    )
    return "\n".join(line for line in lines if line)
