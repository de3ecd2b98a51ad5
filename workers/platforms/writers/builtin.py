"""A writer without a model: an opener about the topic, a thought, a closing line."""

import random
import re
import unicodedata
from collections.abc import Iterator

from workers.platforms.post_text import check, urls, weighted_length
from workers.platforms.writers.phrases import CLOSERS, MIDDLES, OPENERS
from workers.platforms.writers.writer import Brief, Draft, WriterExhausted, likeness

TOPIC_CAP = 60  # weighted; the longest opener, middle and closer leave more room than that
SEEN = 200  # characters of a topic that are looked at
NO_TOPIC = "everyday things"
COMBINATIONS = len(OPENERS) * len(MIDDLES) * len(CLOSERS)
GUESSES = 64  # far apart from each other, so that neighbouring posts don't look alike


class BuiltinWriter:
    """Neutral posts about any topic: tens of thousands a topic, the same for the same brief."""

    def write(self, brief: Brief) -> Draft:
        """A draft chosen by the brief's seed; raises `WriterExhausted` when all are to be avoided."""
        taken = {likeness(text) for text in brief.avoid}
        topics = brief.topics or (NO_TOPIC,)
        spoken = [spoken_topic(topic) for topic in topics]
        for number in _numbers(brief.seed, COMBINATIONS * len(topics)):
            combination, topic = divmod(number, len(topics))
            opener, rest = divmod(combination, len(MIDDLES) * len(CLOSERS))
            middle, closer = divmod(rest, len(CLOSERS))
            text = f"{OPENERS[opener].format(topic=spoken[topic])} {MIDDLES[middle]} {CLOSERS[closer]}"
            if likeness(text) not in taken:
                check(text)
                template = f"{opener}/{middle}/{closer}"
                return Draft(text=text, writer="builtin", topic=topics[topic], detail={"template": template})
        raise WriterExhausted(
            f"all {COMBINATIONS * len(topics)} texts about {len(topics)} topics were used; add topics"
        )


def spoken_topic(topic: str) -> str:
    """`topic` as it can stand in a sentence: one line, no mention, tag or link, not too long."""
    letters = (letter if _is_speakable(letter) else " " for letter in unicodedata.normalize("NFC", topic))
    spoken = " ".join(re.sub(r"[@\uff20#\uff03$]", "", "".join(letters)).split())[:SEEN]
    while weighted_length(spoken) > TOPIC_CAP:
        head, space, _ = spoken.rpartition(" ")
        spoken = head if space else spoken[:-1]
    for url in urls(spoken):
        spoken = spoken.replace(url, re.sub(r"[^\w]+", " ", url).strip())
    return NO_TOPIC if not any(letter.isalnum() for letter in spoken) or urls(spoken) else spoken


def _is_speakable(letter: str) -> bool:
    category = unicodedata.category(letter)
    return category[0] in "LMNPSZ" and ord(letter) & 0xFFFE != 0xFFFE  # noqa: PLR2004  non-characters


def _numbers(seed: int, count: int) -> Iterator[int]:
    """Every number below `count`: first some guesses, then all in a row from the last of them."""
    choice = random.Random(seed)  # noqa: S311  chooses words, no secret
    number = 0
    for _ in range(GUESSES):
        number = choice.randrange(count)
        yield number
    yield from (offset % count for offset in range(number, number + count))
