"""The port: what a writer is asked for and what it gives.

WriterError
├── WriterUnavailable    the model gave no text: try later, or let another writer do it
├── DraftRefused         its text can't be posted: ask for another, or let another writer do it
└── WriterExhausted      nothing new is left to say: add topics, or wait
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from workers.platforms.post_text import canonical

BriefT_contra = TypeVar("BriefT_contra", contravariant=True)


class WriterError(Exception):
    """No draft; `reason` says why, without a secret in it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class WriterUnavailable(WriterError):  # noqa: N818  named for the writer's state
    """The writer could not be asked, or did not answer in its form."""


class DraftRefused(WriterError):  # noqa: N818  the same
    """The writer wrote what can't be posted."""


class WriterExhausted(WriterError):  # noqa: N818  the same
    """All that the writer could write is among the texts to avoid."""


@dataclass(frozen=True, kw_only=True)
class Brief:
    """What post to write.

    Attributes:
        topics: The account's topics, in its owner's words; the writer takes one.
        avoid: Recent texts, none of which may come again.
        at: When the post is to appear; aware.
        seed: Chooses among all that could be written.
    """

    topics: tuple[str, ...]
    avoid: frozenset[str] = frozenset()
    at: datetime
    seed: int


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A text that X accepts, and how it came about.

    Attributes:
        text: The text to post.
        writer: The writer's name: `model` or `builtin`.
        topic: Which of the brief's topics it is about; "" for none.
        detail: What else is worth keeping, such as the model or the template.
        fallback_reason: Why the writer before this one gave none; None when this was the first.
    """

    text: str
    writer: str
    topic: str
    detail: Mapping[str, str | int]
    fallback_reason: str | None = None


class Writer(Protocol[BriefT_contra]):
    """Writes one text a call: a post, a response or an answer, by what its brief is of."""

    def write(self, brief: BriefT_contra) -> Draft:
        """A draft that `post_text.check` passes and that isn't in `avoid`; raises `WriterError`."""
        ...


def likeness(text: str) -> str:
    """The form in which two texts that read the same are equal."""
    return " ".join(canonical(text).casefold().split())
