"""Scoring: how much a post is worth engaging with, as a total from 0 to 100 and every part of it.

Pure: the same post, author, topics and time give the same score. The formula is in docs/reference/scoring.md.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import log1p
from typing import Any

from workers.content.wording import TAG, prose, stems
from workers.platforms.x import Post, User

RATE_FLOOR, RATE_CAP = 0.001, 0.1
"""Engagement rates between which the part rises from nearly nothing to 1: one in a thousand, one in ten."""
PRIOR_READERS = 100
"""Readers without a reaction that every post is given: one like among three readers proves nothing."""
FOLLOWERS_CAP = 1_000_000
WORDS_FLOOR, WORDS_WELL = 3, 12
"""Words of prose below which a post says nothing, and from which it is long enough."""
LETTERS_WELL = 0.7
TAGS_WELL, TAG_COST = 2, 0.25
SHOUTING_FROM = 0.3
HITS_WELL = 3
FUNCTION_WORDS = frozenset(stems("a an and at by for from in of on or the to with"))
"""Words of a topic that say nothing about a text that has them."""
UNKNOWN_LANGUAGE = frozenset({"", "und", "zxx", "qme", "qst", "art"})
"""What X writes where it knows no language, or where there is nothing to tell one from."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """How much each part counts; only their proportion matters."""

    engagement: float = 30
    freshness: float = 20
    reach: float = 15
    topic: float = 20
    quality: float = 15


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a score.

    Attributes:
        value: 0 to 1.
        weight: how much it counts.
        inputs: what it was reckoned from.
    """

    value: float
    weight: float
    inputs: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a post is worth.

    Attributes:
        total: 0 to 100, the weighted mean of the parts.
        topic: which of the topics it fits best; None when it fits none.
        age_h: hours since it was written.
        parts: by name, in the order of the weights.
    """

    total: float
    topic: str | None
    age_h: float
    parts: Mapping[str, Part] = field(default_factory=dict[str, Part])

    def as_json(self) -> dict[str, object]:
        """The parts as the pool keeps them."""
        return {
            name: {"value": part.value, "weight": part.weight, "inputs": dict(part.inputs)}
            for name, part in self.parts.items()
        }


def score(
    post: Post,
    author: User | None,
    topics: Sequence[str],
    now: datetime,
    *,
    weights: Weights | None = None,
    languages: Sequence[str] = (),
    max_age_h: float = 24,
) -> Score:
    """Give the post's score.

    Args:
        post: with its time and, where known, its metrics and language.
        author: who wrote it; None where the platform didn't say: then no followers are known.
        topics: the account's, in its owner's words.
        now: fleet time; aware.
        weights: of the parts; None: the defaults.
        languages: codes such as `en` that the account speaks; empty: every one.
        max_age_h: hours after which nothing is fresh.

    Raises:
        ValueError: the post has no time.
    """
    if post.created_at is None:
        raise ValueError(f"post {post.id} has no created_at: ask X for that field")
    weigh = weights or Weights()
    age_h = max(0.0, (now - post.created_at).total_seconds() / 3600)
    followers = author.followers if author else None
    topic, fit = topic_fit(post.text, topics)
    parts = {
        "engagement": _engagement(post, followers, weigh.engagement),
        "freshness": Part(
            value=min(1.0, max(0.0, 1 - age_h / max_age_h)),
            weight=weigh.freshness,
            inputs={"age_h": round(age_h, 2), "max_age_h": max_age_h},
        ),
        "reach": Part(
            value=min(1.0, log1p(followers or 0) / log1p(FOLLOWERS_CAP)),
            weight=weigh.reach,
            inputs={"followers": followers},
        ),
        "topic": Part(value=fit, weight=weigh.topic, inputs={"topic": topic}),
        "quality": _quality(post, languages, weigh.quality),
    }
    weight = sum(part.weight for part in parts.values())
    total = 100 * sum(part.value * part.weight for part in parts.values()) / weight if weight else 0.0
    return Score(total=min(100.0, max(0.0, round(total, 2))), topic=topic, age_h=age_h, parts=parts)


def topic_fit(text: str, topics: Sequence[str]) -> tuple[str | None, float]:
    """The topic that the text fits best and how well, 0 to 1; (None, 0) when it fits none.

    The share of the topic's words that the text has, by their stems; three places that speak of it are
    worth more than one. A topic in a script without spaces fits where it stands in the text.
    """
    spoken = stems(text)
    folded = text.casefold()
    best: tuple[str | None, float] = (None, 0.0)
    for topic in topics:
        words = set(stems(topic))
        wanted = words - FUNCTION_WORDS or words
        hits = sum(stem in wanted for stem in spoken)
        coverage = len(wanted & set(spoken)) / len(wanted) if wanted else 0.0
        if not topic.isascii() and topic.strip() and topic.casefold() in folded:
            coverage, hits = 1.0, max(hits, folded.count(topic.casefold()))
        fit = coverage * (0.7 + 0.3 * min(1.0, max(0, hits - 1) / (HITS_WELL - 1)))
        if fit > best[1]:
            best = (topic, fit)
    return best


def _engagement(post: Post, followers: int | None, weight: float) -> Part:
    """Reactions for each reader, by impressions where X gave them, else by followers; log-scaled."""
    counts = post.metrics
    kinds = ("likes", "reposts", "replies", "quotes")
    reactions = {kind: (getattr(counts, kind) or 0) if counts else 0 for kind in kinds}
    impressions = counts.impressions if counts else None
    readers = impressions or followers or 0
    rate = sum(reactions.values()) / (readers + PRIOR_READERS)
    value = min(1.0, log1p(rate / RATE_FLOOR) / log1p(RATE_CAP / RATE_FLOOR))
    base = "impressions" if impressions else "followers" if followers else "none"
    return Part(
        value=value,
        weight=weight,
        inputs={**reactions, "impressions": impressions, "base": base, "rate": round(rate, 5)},
    )


def _quality(post: Post, languages: Sequence[str], weight: float) -> Part:
    """Whether somebody says something: each fault lowers the product, links alone make it 0."""
    text = html.unescape(post.text)
    said = prose(text)
    words = len(said.split())
    visible = [letter for letter in text if not letter.isspace()]
    letters = sum(letter.isalpha() for letter in visible) / len(visible) if visible else 0.0
    tags = len(TAG.findall(text))
    cased = [letter for letter in said if letter.isupper() or letter.islower()]
    upper = sum(letter.isupper() for letter in cased) / len(cased) if cased else 0.0
    scriptless = not said.isascii() and letters > 0  # Chinese or Thai put no space between words
    length = len(said) / 5 if scriptless and words < WORDS_WELL else words
    faults = {
        "length": 0.0 if length < WORDS_FLOOR else min(1.0, length / WORDS_WELL),
        "letters": min(1.0, letters / LETTERS_WELL),
        "hashtags": max(0.0, 1 - TAG_COST * max(0, tags - TAGS_WELL)),
        "shouting": min(1.0, max(0.0, (1 - upper) / (1 - SHOUTING_FROM))),
        "language": 1.0 if speaks(post.lang, languages) else 0.0,
    }
    value = 1.0
    for fault in faults.values():
        value *= fault
    inputs = {"words": words, "hashtags": tags, "lang": post.lang}
    return Part(
        value=value,
        weight=weight,
        inputs=inputs | {f"{name}_value": round(fault, 3) for name, fault in faults.items()},
    )


def speaks(lang: str | None, languages: Sequence[str]) -> bool:
    """Whether the account speaks the language; one that the platform couldn't tell passes."""
    known = (lang or "").casefold().partition("-")[0]
    return not languages or known in UNKNOWN_LANGUAGE or known in {code.casefold() for code in languages}
