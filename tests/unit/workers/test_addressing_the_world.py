"""What the sandbox's people write to the account is judged as they meant it."""

import pytest

from sandbox.world import phrases
from sandbox.world.chance import Chance
from workers.content.addressing import Addressed, Judgement, judge
from workers.platforms.x import Post

US = Addressed(user_id="42", handle="fleet")
OURS = Post.model_validate({"id": "1000", "text": "A thought.", "author_id": "42"})
TRIES = 40


def said(kind: str, **fields: object) -> list[tuple[str, Judgement]]:
    """Texts of a kind about every topic, each with how it is judged."""
    found: list[tuple[str, Judgement]] = []
    for topic in phrases.topics():
        for number in range(TRIES):
            chance = Chance("test", kind, topic.name, number)
            text = phrases.to_account(
                chance, kind, topic, account="@fleet", link="https://x.com/ann/status/555"
            )
            post = Post.model_validate({"id": "9000", "text": text, "author_id": "7", **fields})
            found.append((text, judge(post, US, {"1000": OURS})))
    return found


@pytest.mark.parametrize(
    ("kind", "request_"),
    [("question", "answer"), ("remark", "answer"), ("check_out", "analyse"), ("opt_out", "opt_out")],
)
def test_who_speaks_to_the_account_is_heard_by_what_they_want(kind: str, request_: str) -> None:
    wrong = {text for text, found in said(kind) if (found.kind, found.request) != ("direct", request_)}
    assert wrong == set()


def test_talk_about_the_account_is_not_answered() -> None:
    wrong = {text for text, found in said("indirect") if found.request != "none"}
    assert wrong == set()


def test_a_reply_under_the_accounts_post_is_answered() -> None:
    reply = {
        "referenced_tweets": [{"type": "replied_to", "id": "1000"}],
        "in_reply_to_user_id": "42",
    }
    wrong = {
        text for text, found in said("reply", **reply) if (found.kind, found.request) != ("direct", "answer")
    }
    assert wrong == set()


def test_a_quote_that_only_comments_is_not_answered() -> None:
    quote = {"referenced_tweets": [{"type": "quoted", "id": "1000"}]}
    wrong = {text for text, found in said("quote", **quote) if found.request != "none" or not found.summons}
    assert wrong == set()
