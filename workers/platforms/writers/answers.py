"""Answers to a mention: what to say to somebody who spoke to the account, without a model.

What they wrote chooses among our own phrases and is never repeated: nobody can make the account say a thing.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from workers.platforms.post_text import check
from workers.platforms.writers.answer_phrases import (
    CLOSERS,
    GUESSES,
    OPENERS,
    REPORTS_OF_NOTHING,
    REPORTS_WITH_SCORE,
    THOUGHTS,
)
from workers.platforms.writers.builtin import spoken_topic
from workers.platforms.writers.writer import Draft, WriterExhausted

Tone = Literal["how", "what", "choice", "question", "thanks", "remark"]

TONES: Sequence[tuple[Tone, re.Pattern[str]]] = (
    ("how", re.compile(r"\bhow\b[^?]*\?", re.IGNORECASE)),
    ("choice", re.compile(r"\b(?:which|or)\b[^?]*\?", re.IGNORECASE)),
    ("what", re.compile(r"\b(?:what|why|when|where|who)\b[^?]*\?", re.IGNORECASE)),
    ("question", re.compile(r"\?")),
    ("thanks", re.compile(r"\b(?:thanks|thank you|thx|great|love|good point|well put)\b", re.IGNORECASE)),
)
SEEN = 2000
GOOD_SCORE = 60.0
"""From here on a post is called worth the time."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What looking at a post came to.

    Attributes:
        found: whether the platform showed it.
        score: 0 to 100; None where it has none.
        topic: the account's topic that it fits best.
    """

    found: bool
    score: float | None = None
    topic: str | None = None


@dataclass(frozen=True, kw_only=True)
class AnswerBrief:
    """What to answer.

    Attributes:
        words: What they wrote, as it stands there.
        topics: The account's topics.
        report: What came of looking at the post that they pointed to; None: they pointed to none, or
            nothing came back.
        avoid: Recent texts, none of which may come again.
        seed: Chooses among all that could be said.
    """

    words: str
    topics: tuple[str, ...]
    report: Report | None = None
    avoid: frozenset[str] = frozenset()
    seed: int


class BuiltinAnswerer:
    """Neutral answers in the tone of the question: hundreds a tone, the same for the same brief."""

    def write(self, brief: AnswerBrief) -> Draft:
        """A draft chosen by the brief's seed; raises `WriterExhausted` when all are to be avoided."""
        topic = topic_in(brief.words, brief.topics)
        tone = tone_of(brief.words)
        for number, text in enumerate(_candidates(brief, tone, topic)):
            if text not in brief.avoid:  # ours are built of whole phrases: alike means equal
                check(text)
                detail = {"tone": tone if brief.report is None else "report", "guess": number}
                return Draft(text=text, writer="builtin", topic=topic or "", detail=detail)
        raise WriterExhausted("all answers were given within the last days; wait")


def tone_of(words: str) -> Tone:
    """What kind of answer the words call for."""
    for tone, pattern in TONES:
        if pattern.search(words[:SEEN]):
            return tone
    return "remark"


def topic_in(words: str, topics: Sequence[str]) -> str | None:
    """The account's topic that the words name, if any."""
    said = words[:SEEN].casefold()
    return next((topic for topic in topics if topic.casefold() in said), None)


def _candidates(brief: AnswerBrief, tone: Tone, topic: str | None) -> Iterator[str]:
    choice = random.Random(brief.seed)  # noqa: S311  chooses words, no secret
    if brief.report is None:
        first = OPENERS[tone]
    elif brief.report.found and brief.report.score is not None:
        kind = "good" if brief.report.score >= GOOD_SCORE else "plain"
        first = REPORTS_WITH_SCORE[kind if brief.report.topic or topic else "aside"]
    else:
        first = REPORTS_OF_NOTHING
    about = brief.report.topic if brief.report and brief.report.topic else topic
    score = "" if brief.report is None or brief.report.score is None else f"{brief.report.score:.0f}"
    for _ in range(GUESSES):
        opener = choice.choice(first).format(topic=spoken_topic(about or "it"), score=score)
        yield f"{opener} {choice.choice(THOUGHTS)} {choice.choice(CLOSERS)}"
