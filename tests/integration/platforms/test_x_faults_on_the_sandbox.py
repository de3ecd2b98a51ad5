"""X's client against the sandbox's faults: what it claims never contradicts the sandbox's record."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.integration.platforms.sandboxed import Sandbox, running
from workers.platforms.x import (
    Limit,
    Outcome,
    Sent,
    X,
    XCreditsDepleted,
    XError,
    XMalformed,
    XRateLimited,
    XUnauthorized,
    XUnavailable,
)

WRITE_FAULTS = {
    "drop_before_accepting": (Outcome.UNKNOWN, False),
    "drop_after_accepting": (Outcome.UNKNOWN, True),
    "accept_then_504": (Outcome.UNKNOWN, True),
    "unavailable_503": (Outcome.UNKNOWN, False),
    "tokens_revoked": (Outcome.REJECTED, False),
    "credits_depleted": (Outcome.REJECTED, False),
    "rate_limited": (Outcome.RATE_LIMITED, False),
    "code_88": (Outcome.RATE_LIMITED, False),
    "usage_cap": (Outcome.RATE_LIMITED, False),
}
LIMITS = {"rate_limited": Limit.WINDOW, "code_88": Limit.CODE_88, "usage_cap": Limit.USAGE_CAP}
SHAPES = ("cut", "html", "empty", "list", "types")
READS: dict[str, Callable[[Sandbox, X], Any]] = {
    "me": lambda _, x: x.me(),
    "posts": lambda _, x: x.posts(["20"]),
    "users": lambda sandbox, x: x.users([sandbox.user_id]),
    "own posts": lambda sandbox, x: x.own_posts(sandbox.user_id),
    "mentions": lambda sandbox, x: x.mentions(sandbox.user_id),
    "search": lambda _, x: x.search("maps"),
}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def sandbox(state: Path) -> Iterator[Sandbox]:
    world = state.parent / "faults_world.csv"
    world.write_text("created_at,user,text\n2026-02-02T07:58:00Z,mira,@fleet what about maps?\n", "utf-8")
    with running(state, "--world", str(world)) as started:
        yield started


@pytest.fixture
def arm(sandbox: Sandbox, state: Path) -> Iterator[Callable[..., None]]:
    """Arms a fault for the next request; none is left when the test ends."""
    control = f"{sandbox.url}/_sandbox/faults"
    headers = {"Authorization": f"Bearer {(state / 'sandbox.token').read_text().strip()}"}

    def armed(fault: str, **options: str) -> None:
        answer = requests.post(
            control, json={"fault": fault, "count": 1, **options}, headers=headers, timeout=5
        )
        assert answer.status_code == 201, answer.text

    yield armed
    requests.delete(control, headers=headers, timeout=5)


def written(sandbox: Sandbox) -> list[str]:
    writes: Any = requests.get(f"{sandbox.url}/_sandbox/writes", timeout=5).json()
    return [write["action"] for write in writes]


@pytest.fixture(scope="module")
def mention(sandbox: Sandbox) -> str:
    return sandbox.x.mentions(sandbox.user_id).value[0].id


def acts(sandbox: Sandbox, mention: str, fault: str) -> dict[str, Callable[[], Sent]]:
    x = X(sandbox.url, sandbox.credentials, deadline_s=5)
    return {
        "reply": lambda: x.create_post(f"A reply under {fault}", reply_to=mention),
        "quote": lambda: x.create_post(f"A quote under {fault}", quote_of=mention),
        "post": lambda: x.create_post(f"A post under {fault}"),
    }


@pytest.mark.parametrize("fault", WRITE_FAULTS)
@pytest.mark.parametrize("name", ["reply", "quote", "post"])
def test_a_write_under_a_fault_is_sorted_as_the_record_has_it(
    sandbox: Sandbox, arm: Callable[..., None], mention: str, fault: str, name: str
) -> None:
    outcome, accepted = WRITE_FAULTS[fault]
    before = written(sandbox)
    arm(fault)
    sent = acts(sandbox, mention, fault)[name]()
    assert (sent.outcome, sent.limit) == (outcome, LIMITS.get(fault)), sent
    assert written(sandbox) == before + [name] * accepted


@pytest.mark.parametrize("shape", SHAPES)
def test_a_like_whose_answer_is_broken_is_unknown_and_asked_again_it_is_one_like(
    sandbox: Sandbox, arm: Callable[..., None], mention: str, shape: str
) -> None:
    arm("malformed_body", shape=shape)
    assert sandbox.x.like(sandbox.user_id, mention).outcome is Outcome.UNKNOWN
    assert sandbox.x.like(sandbox.user_id, mention).outcome is Outcome.POSTED
    assert written(sandbox).count("like") == 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", READS)
def test_a_read_of_a_broken_body_is_malformed_and_the_next_is_whole(
    sandbox: Sandbox, arm: Callable[..., None], name: str, shape: str
) -> None:
    arm("malformed_body", shape=shape)
    with pytest.raises(XMalformed):
        READS[name](sandbox, sandbox.x)
    READS[name](sandbox, sandbox.x)


READ_FAULTS: dict[str, type[XError]] = {
    "unavailable_503": XUnavailable,
    "tokens_revoked": XUnauthorized,
    "credits_depleted": XCreditsDepleted,
    "rate_limited": XRateLimited,
    "code_88": XRateLimited,
    "usage_cap": XRateLimited,
}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("fault", READ_FAULTS)
def test_a_read_under_a_fault_is_the_error_of_its_kind_and_the_next_is_whole(
    sandbox: Sandbox, arm: Callable[..., None], name: str, fault: str
) -> None:
    arm(fault)
    with pytest.raises(XError) as caught:
        READS[name](sandbox, sandbox.x)
    assert type(caught.value) is READ_FAULTS[fault]
    READS[name](sandbox, sandbox.x)
