"""The law by which people react to a post; `law.toml` has its numbers, docs/reference/world.md its formulas.

LawError     the numbers are no law: a chance could be above 1, or a number is missing
"""

import functools
import importlib.resources
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from statistics import NormalDist
from typing import Any

from sandbox.world.traits import Traits

ACTS = ("like", "reply", "repost", "quote", "bookmark", "follow")
FORMATS = ("plain", "question", "list", "shout", "quote", "reply")
DAY_H = 24
_NORMAL = NormalDist()


class LawError(Exception):
    """The file is no law; the text says which number to change."""


@dataclass(frozen=True, kw_only=True)
class Factors:
    """A number for each thing that a reader may do: to see the post, and the `ACTS`; 1 changes nothing."""

    see: float = 1.0
    like: float = 1.0
    reply: float = 1.0
    repost: float = 1.0
    quote: float = 1.0
    bookmark: float = 1.0
    follow: float = 1.0

    def of(self, act: str) -> float:
        """The number of one act."""
        return float(getattr(self, act))


@dataclass(frozen=True, kw_only=True)
class Seeing:
    """Who sees a post: chances by the way it reaches somebody."""

    follower: float
    stranger: float
    reach_floor: float
    answered: float


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a reader's interest in the topics works."""

    unknown: float
    floor: float


@dataclass(frozen=True, kw_only=True)
class Length:
    """The best length in characters, and how quickly another one is worse."""

    best: float
    width: float
    floor: float


@dataclass(frozen=True, kw_only=True)
class Novelty:
    """How a repetition loses; it is measured against the author's posts of some days."""

    tolerated: float
    floor: float
    days: float
    posts: int


@dataclass(frozen=True, kw_only=True)
class Tags:
    """How many hashtags are tolerated, and the factor for each beyond."""

    tolerated: int
    factor: float


@dataclass(frozen=True, kw_only=True)
class Delay:
    """How long readers take, in seconds."""

    quick_share: float
    quick_s: float
    slow_s: float
    act_s: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Others:
    """The cheaper law for people's own posts."""

    open_rate: float
    strangers: float
    interest: float
    spread: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Law:
    """The law; a chance is the product of its factors, none of which depends on another reader."""

    seeing: Seeing
    fit: Fit
    hours: tuple[float, ...]
    length: Length
    novelty: Novelty
    tags: Tags
    spread: float
    delay: Delay
    base: Factors
    most: float
    worth: Factors
    formats: Mapping[str, Factors]
    link: Factors
    others: Others

    # To see

    def reach(self, followers: int, people: int) -> float:
        """What an author's followers do for strangers: 1 where everybody follows."""
        floor = self.seeing.reach_floor
        return floor + (1 - floor) * math.sqrt(followers / people)

    def channel(self, *, follows: bool, interest: float, reach: float) -> float:
        """The chance that a post reaches a reader who pays full attention."""
        return self.seeing.follower if follows else self.seeing.stranger * interest * reach

    def seen(self, traits: Traits) -> float:
        """What the post itself does to the chance of being seen."""
        return (
            self.formats[traits.format].see
            * (self.link.see if traits.link else 1.0)
            * self.tags.factor ** max(0, traits.tags - self.tags.tolerated)
            * self.new(traits.similarity)
        )

    # To act

    def acts(self, traits: Traits) -> dict[str, float]:
        """What the post itself does to the chance of each act of one who saw it, base included."""
        shape = self.long(traits.length) * self.new(traits.similarity)
        form = self.formats[traits.format]
        return {
            act: self.base.of(act) * shape * form.of(act) * (self.link.of(act) if traits.link else 1.0)
            for act in ACTS
        }

    def fits(self, interest: float) -> float:
        """What a reader's interest does to the chance of each act."""
        return self.fit.floor + (1 - self.fit.floor) * interest

    def long(self, characters: float) -> float:
        """What the length does: 1 at the best one."""
        away = math.log(max(1.0, characters) / self.length.best) / self.length.width
        return self.length.floor + (1 - self.length.floor) * math.exp(-away * away / 2)

    def new(self, similarity: float) -> float:
        """What repeating oneself does: 1 for what is new."""
        beyond = max(0.0, similarity - self.novelty.tolerated) / (1 - self.novelty.tolerated)
        return self.novelty.floor + (1 - self.novelty.floor) * (1 - beyond) ** 2

    def noise(self, fraction: float) -> float:
        """A post's luck, from a random number between 0 and 1; 1 on average."""
        return 1 - self.spread + 2 * self.spread * fraction

    def crowd_noise(self, fraction: float) -> float:
        """The luck of a person's own post: lognormal, 1 on average."""
        sigma = self.others.spread
        return math.exp(sigma * _NORMAL.inv_cdf(min(max(fraction, 1e-9), 1 - 1e-9)) - sigma * sigma / 2)

    # When

    def seen_by(self, age_s: float) -> float:
        """The share of a post's readers who have seen it at an age."""
        if age_s <= 0:
            return 0.0
        quick = -math.expm1(-age_s / self.delay.quick_s)
        slow = -math.expm1(-age_s / self.delay.slow_s)
        return self.delay.quick_share * quick + (1 - self.delay.quick_share) * slow


def source() -> bytes:
    """The file of numbers as it is: other numbers make another world."""
    return importlib.resources.files("sandbox.world").joinpath("law.toml").read_bytes()


@functools.cache
def default() -> Law:
    """The law of `law.toml`."""
    return read(source().decode())


def read(toml: str) -> Law:
    """The law in a TOML text; raises LawError."""
    try:
        found: dict[str, Any] = tomllib.loads(toml)
        law = Law(
            seeing=Seeing(**found["seeing"]),
            fit=Fit(**found["fit"]),
            hours=tuple(found["attention"]["by_hour"]),
            length=Length(**found["length"]),
            novelty=Novelty(**found["novelty"]),
            tags=Tags(**found["tags"]),
            spread=found["noise"]["spread"],
            delay=Delay(**found["delay"]),
            base=Factors(**found["base"]),
            most=found["temperament"]["most"],
            worth=Factors(**found["worth"]),
            formats={name: Factors(**found["format"][name]) for name in FORMATS},
            link=Factors(**found["link"]),
            others=Others(**found["others"]),
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise LawError(
            f"law.toml can't be read: {error!r}. Write it as docs/reference/world.md says."
        ) from error
    _check(law)
    return law


def _check(law: Law) -> None:
    """Refuses numbers by which a chance could be above 1: the expected value would no longer be a product."""
    if len(law.hours) != DAY_H or not all(0 <= hour <= 1 for hour in law.hours):
        raise LawError(f"[attention] by_hour is {list(law.hours)}: expected 24 numbers from 0 to 1")
    if set(law.delay.act_s) != set(ACTS):
        raise LawError(f"[delay] act_s has {sorted(law.delay.act_s)}: expected {sorted(ACTS)}")
    channel = max(getattr(law.seeing, field.name) for field in fields(law.seeing))
    for act in ("see", *ACTS):
        form = max(factors.of(act) for factors in law.formats.values())
        most = form * max(1.0, law.link.of(act))
        most *= channel if act == "see" else law.base.of(act) * law.most * (1 + law.spread)
        if not 0 <= most <= 1:
            raise LawError(
                f"the chance of '{act}' could be {most:.2f}: lower its numbers until it is at most 1"
            )
