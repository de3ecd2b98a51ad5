"""Payloads: what a message must say is checked where it is written, and named when it is missing."""

from typing import Any

import pytest
from pydantic import BaseModel

from coordination import Fleet
from coordination.errors import InvalidValueError
from coordination.messages import MessageType
from tests.integration.coordination.tables import Owner, value
from workers import tasks

RIGHT: list[tuple[MessageType, tasks.Task]] = [
    ("TASK_DELEGATION", tasks.AnalysePost(account="a", post_id="1", mention_id="2")),
    (
        "TASK_DELEGATION",
        tasks.PostAnalysed(account="a", post_id="1", mention_id="2", found=True, reason="it is fine"),
    ),
    ("TASK_DELEGATION", tasks.SystemIssue(issue="the disk is full", severity="error")),
    ("RESOURCE_REQUEST", tasks.ResourceRequest(resource_type="content", resource_id="7", priority="high")),
    ("RESOURCE_REQUEST", tasks.Availability(resource_type="content", available=True)),
    (
        "CONFLICT_RESOLUTION",
        tasks.Conflict(
            kind="resource",
            thing="post 7",
            contenders=[tasks.Claimant(worker="a"), tasks.Claimant(worker="b")],
        ),
    ),
    (
        "CONFLICT_RESOLUTION",
        tasks.ConflictDecision(
            conflict="1",
            thing="post 7",
            state="open",
            strategy="person",
            winner=None,
            grants=[],
            reason="equal",
        ),
    ),
    ("STATE_SYNC", tasks.StateChanged(key="cadence", version=7)),
    ("PRIORITY_ESCALATION", tasks.Escalation(kind="message", id="7", priority="critical")),
    ("PRIORITY_ESCALATION", tasks.Escalation(kind="engagement_lock", content="1999")),
]
"""Every payload of the fleet's own but the coordinator's events, which its own tests send."""


ASKED: dict[str, Any] = {"kind": "analyse_post", "account": "a", "post_id": "1", "mention_id": "1"}


def written(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude_none=True)


@pytest.mark.parametrize(("type_", "task"), RIGHT, ids=lambda one: type(one).__name__)
def test_what_the_models_write_is_taken_and_without_a_needed_field_refused_by_its_name(
    fleet: Fleet, owner: Owner, type_: MessageType, task: tasks.Task
) -> None:
    payload = written(task)
    fleet.messages.send(type_, "tester", payload)
    fields = value(owner, "SELECT fleet.payload_fields(%s, %s)", type_, payload.get("kind"))
    needed = [name.removesuffix("!") for name in fields if name.endswith("!")]
    assert needed
    for name in needed:
        less = {key: said for key, said in payload.items() if key != name}
        with pytest.raises(InvalidValueError) as refusal:
            fleet.messages.send(type_, "tester", less)
        assert (refusal.value.field, refusal.value.value) == (f"payload.{name}", None)
        assert refusal.value.allowed
    assert value(owner, "SELECT count(*) FROM fleet.messages") == 1


@pytest.mark.parametrize(
    ("type_", "payload", "field", "given"),
    [
        ("TASK_DELEGATION", {"kind": None}, "kind", None),
        ("TASK_DELEGATION", {"kind": ["analyse_post"]}, "kind", '["analyse_post"]'),
        ("TASK_DELEGATION", {"kind": "Make Tea"}, "kind", "Make Tea"),
        ("TASK_DELEGATION", ASKED | {"account": ""}, "account", ""),
        ("TASK_DELEGATION", ASKED | {"post_id": "x"}, "post_id", "x"),
        ("TASK_DELEGATION", {"kind": "system_issue", "issue": "x", "severity": "awful"}, "severity", "awful"),
        ("STATE_SYNC", {"key": "k", "version": 1.5}, "version", "1.5"),
        ("STATE_SYNC", {"key": "k", "version": "1"}, "version", "1"),
        ("CONFLICT_RESOLUTION", {"kind": "quarrel", "thing": "x"}, "kind", "quarrel"),
        ("CONFLICT_RESOLUTION", {"kind": "resource", "thing": "x", "contenders": {}}, "contenders", "{}"),
        ("PRIORITY_ESCALATION", {"kind": "message", "id": 7}, "id", "7"),
        ("PRIORITY_ESCALATION", {"kind": "message", "id": "7", "priority": "now"}, "priority", "now"),
    ],
)  # fmt: skip
def test_a_field_of_the_wrong_kind_is_refused_by_its_name(
    fleet: Fleet, owner: Owner, type_: MessageType, payload: dict[str, Any], field: str, given: str | None
) -> None:
    for send in (
        lambda: fleet.messages.send(type_, "tester", payload),
        lambda: fleet.messages.broadcast(type_, payload),
    ):
        with pytest.raises(InvalidValueError) as refusal:
            send()
        assert (refusal.value.field, refusal.value.value) == (f"payload.{field}", given)
    assert value(owner, "SELECT count(*) FROM fleet.messages") == 0


def test_a_workers_own_kind_may_say_what_it_likes(fleet: Fleet) -> None:
    fleet.messages.send("TASK_DELEGATION", "tester", {"kind": "paint.wall", "colour": [1, 2, 3]})
    assert fleet.messages.claim()[0].payload["colour"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("type_", "payload", "priority"),
    [
        ("PRIORITY_ESCALATION", {"kind": "thing"}, "critical"),
        ("CONFLICT_RESOLUTION", {"kind": "resource", "thing": "x", "contenders": []}, "high"),
        ("SYSTEM_EVENT", {"kind": "news"}, "high"),
        ("TASK_DELEGATION", {"kind": "do"}, "medium"),
        ("RESOURCE_REQUEST", {"resource_type": "content"}, "medium"),
        ("STATE_SYNC", {"key": "k", "version": 1}, "low"),
    ],
)
def test_where_none_is_given_the_priority_follows_from_the_type(
    fleet: Fleet, type_: MessageType, payload: dict[str, Any], priority: str
) -> None:
    fleet.messages.send(type_, "tester", payload)
    fleet.messages.send(type_, "tester", payload, priority="medium")
    assert sorted(one.priority for one in fleet.messages.claim(2)) == sorted([priority, "medium"])
