"""Which method takes which message, and how long a failed one waits."""

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal

import pytest
from pydantic import BaseModel

from coordination.messages import Message
from workers import registry
from workers.base import Worker
from workers.errors import RegistryError
from workers.handlers import MessageRefusedError, choose, find, handle, handles, retry_in_s
from workers.tasks import AnalysePost

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Loose(BaseModel):
    """Any payload."""

    n: int = 0


class Open(BaseModel):
    """Its kind has no default: it takes the whole type."""

    kind: Literal["a", "b"]


class Clerk:
    """Takes three."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, BaseModel]] = []

    @handles("TASK_DELEGATION", AnalysePost)
    def analyse(self, _message: Message, task: AnalysePost) -> None:
        self.taken.append(("analyse", task))

    @handles("TASK_DELEGATION", Loose)
    def anything_else(self, _message: Message, task: Loose) -> None:
        self.taken.append(("anything_else", task))

    @handles("STATE_SYNC", Open)
    def sync(self, _message: Message, task: Open) -> None:
        self.taken.append(("sync", task))


class Junior(Clerk):
    """Takes what Clerk does."""


def message(payload: dict[str, Any], **changes: Any) -> Message:
    values: dict[str, Any] = {
        "id": "7",
        "type": "TASK_DELEGATION",
        "sender": "mentions",
        "to": "worker",
        "payload": payload,
        "priority": "medium",
        "reply_to": None,
        "attempt": 1,
        "lease": 1,
        "sent_at": NOW,
        "expires_at": NOW + timedelta(hours=1),
    }
    return Message(**{**values, **changes})


ASKED = {"kind": "analyse_post", "account": "sandbox", "post_id": "1", "mention_id": "2"}


def test_the_kind_decides_and_what_has_no_handler_of_its_own_goes_to_that_of_the_type() -> None:
    clerk = Junior()
    handlers = find(Junior)
    handle(clerk, handlers, message(ASKED))
    handle(clerk, handlers, message({"kind": "else", "n": 3}))
    handle(clerk, handlers, message({"n": 4}))
    handle(clerk, handlers, message({"kind": "b"}, type="STATE_SYNC"))
    assert clerk.taken == [
        ("analyse", AnalysePost(account="sandbox", post_id="1", mention_id="2")),
        ("anything_else", Loose(n=3)),
        ("anything_else", Loose(n=4)),
        ("sync", Open(kind="b")),
    ]


def test_a_type_that_nobody_takes_is_refused_with_what_is_taken() -> None:
    with pytest.raises(MessageRefusedError, match="STATE_SYNC, TASK_DELEGATION, TASK_DELEGATION of kind"):
        handle(Clerk(), find(Clerk), message({}, type="SYSTEM_EVENT"))
    assert choose(find(Clerk), message({}, type="SYSTEM_EVENT")) is None


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        ({**ASKED, "post_id": None}, "post_id is None"),
        ({**ASKED, "post_id": "1" * 20}, "post_id is '1111"),
        ({**ASKED, "post_id": "\u0663"}, "post_id is '\u0663'"),
        ({"kind": "analyse_post"}, "account is"),
        ({**ASKED, "words": "x"}, "words is 'x'"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused_with_the_field(payload: dict[str, Any], fault: str) -> None:
    clerk = Clerk()
    with pytest.raises(MessageRefusedError, match="the payload is no AnalysePost") as refusal:
        handle(clerk, find(Clerk), message(payload))
    assert fault in str(refusal.value)
    assert clerk.taken == []


def test_a_hostile_payload_is_not_repeated_at_full_length() -> None:
    with pytest.raises(MessageRefusedError) as refusal:
        handle(Clerk(), find(Clerk), message({**ASKED, "post_id": "x" * 60_000}))
    assert len(str(refusal.value)) < 500


def test_each_failure_doubles_the_wait_up_to_ten_minutes() -> None:
    assert [retry_in_s(attempt) for attempt in (1, 2, 3, 7, 1000)] == [10, 20, 40, 600, 600]


def test_a_role_that_no_message_could_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Painter(Worker):
        """Paints."""

        name = "painter"
        roles: ClassVar[tuple[str, ...]] = ("Bold Colours",)

    registry.find.cache_clear()
    monkeypatch.setattr(registry, "_in_file", lambda _module: [Painter])  # pyright: ignore[reportUnknownArgumentType, reportUnknownLambdaType]
    try:
        with pytest.raises(RegistryError, match="a role is 'Bold Colours'"):
            registry.find()
    finally:
        registry.find.cache_clear()


def test_a_name_that_is_no_workers_has_no_roles() -> None:
    assert registry.roles("stranger") == ()
    assert registry.roles("monitoring") == ("system_issue",)
