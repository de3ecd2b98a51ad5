"""What a post is to the account that it names: spoken to, talked about, asked to look, asked to stop."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.content.addressing import Addressed, Judgement, judge
from workers.content.requests import asks_to_look, asks_to_stop
from workers.platforms.x import Post

TO = Addressed(user_id="42", handle="fleet", hosts=frozenset({"127.0.0.1:8790"}))
OURS = Post.model_validate({"id": "1000", "text": "A thought.", "author_id": "42"})
THEIRS = Post.model_validate({"id": "2000", "text": "Bread needs time.", "author_id": "7"})
TO_US = Post.model_validate({"id": "3000", "text": "@fleet hello", "author_id": "7"})
CONTEXT = {post.id: post for post in (OURS, THEIRS, TO_US)}


def post(text: str, **fields: Any) -> Post:
    references = [
        {"type": kind, "id": fields.pop(name)}
        for name, kind in (("answers", "replied_to"), ("quotes", "quoted"), ("repeats", "retweeted"))
        if name in fields
    ]
    return Post.model_validate(
        {"id": "9000", "text": text, "author_id": "7", "referenced_tweets": references, **fields}
    )


def judged(text: str, **fields: Any) -> Judgement:
    return judge(post(text, **fields), TO, CONTEXT)


@pytest.mark.parametrize(
    "text",
    [
        "@fleet what about gardens?",
        "@Fleet what about gardens?",
        ".@fleet what about gardens?",
        "@ann @fleet what do you think?",
        "hey @fleet, how do you brew coffee?",
        "Asking for a friend, @fleet: how old is your sourdough?",
        "Lovely weather. @fleet how do you do it?",
        "What do you think, @fleet?",
        "what do you think @fleet",
        "Could you help me please @fleet",
        "Which bike would you buy @fleet? I can't choose.",
        "Thanks @fleet!",
        "@fleet is great, how do I join?",
    ],
)
def test_a_post_that_opens_with_the_handle_or_calls_it_is_direct(text: str) -> None:
    found = judged(text)
    assert (found.kind, found.request, found.summons) == ("direct", "answer", True), found.why


@pytest.mark.parametrize(
    "text",
    [
        "I agree with @fleet about gardens: compost is patience.",
        "Interesting what @fleet writes about gardens. Tomatoes want sun.",
        "People like @fleet say that bread needs time.",
        "Since @fleet wrote about gardens I keep weeding.",
        "I learned it from @fleet.",
        "I learned it from @fleet. Did you?",
        "@fleet's posts are everywhere",
        "Have you read what they say about @fleet?",
        "big fan of @fleet and @ann",
        "mail me@fleet.com",
        "Today: @fleet says bread needs time.",
        "@fleetadmiral what about gardens?",
    ],
)
def test_talk_about_the_account_is_indirect_and_not_acted_on(text: str) -> None:
    found = judged(text)
    assert (found.kind, found.request) == ("indirect", "none"), found.why
    assert found.reason


def test_an_answer_to_the_accounts_own_post_is_direct_whatever_it_says() -> None:
    found = judged("@fleet Good point.", answers="1000", in_reply_to_user_id="42")
    assert (found.kind, found.request, found.summons) == ("direct", "answer", True)


def test_a_handle_inherited_from_the_thread_is_indirect() -> None:
    found = judged("@ann @fleet Right, and soil matters.", answers="3000", in_reply_to_user_id="7")
    assert (found.kind, found.request, found.summons) == ("indirect", "none", True)
    assert found.reason == "the handle is inherited from the thread"
    unknown = judged("@ann @fleet Right, and soil matters.", answers="404", in_reply_to_user_id="7")
    assert unknown.kind == "indirect"


def test_a_handle_that_the_thread_did_not_have_was_written_by_the_author() -> None:
    found = judged("@ann @fleet Right, and soil matters.", answers="2000", in_reply_to_user_id="7")
    assert (found.kind, found.request) == ("direct", "answer")


def test_in_a_thread_the_handle_counts_again_behind_the_inherited_ones() -> None:
    found = judged("@ann @fleet Right. @fleet, how do you do it?", answers="3000", in_reply_to_user_id="7")
    assert found.kind == "direct"


def test_own_posts_reposts_and_quotes_are_not_answered() -> None:
    assert judged("@fleet to myself", author_id="42").kind == "own"
    assert judged("RT @fleet: A thought.", repeats="1000").kind == "indirect"
    quote = judged("My thoughts exactly. It needs time.", quotes="1000")
    assert (quote.kind, quote.request, quote.summons) == ("indirect", "none", True)
    calling = judged("@fleet and how long?", quotes="1000")
    assert (calling.kind, calling.request) == ("direct", "answer")


@pytest.mark.parametrize(
    ("text", "fields", "subject"),
    [
        ("@fleet check out this: https://x.com/ann/status/555", {}, "555"),
        ("@fleet look at this: http://127.0.0.1:8790/ann/status/555", {}, "555"),
        ("@fleet have you seen this one about bread? https://twitter.com/i/status/555", {}, "555"),
        ("@fleet check this out https://x.com/ann/status/555 Slow is fine.", {}, "555"),
        ("@fleet https://x.com/ann/status/555", {}, "555"),
        ("@fleet what do you think of this?", {"quotes": "2000"}, "2000"),
        ("@fleet what do you think?", {"answers": "2000", "in_reply_to_user_id": "7"}, "2000"),
    ],
)
def test_a_pointer_to_a_post_asks_to_look_at_it(text: str, fields: dict[str, str], subject: str) -> None:
    found = judged(text, **fields)
    assert (found.kind, found.request, found.subject) == ("direct", "analyse", subject)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("@fleet what do you think of sourdough?", {}),
        ("@fleet look at this: https://example.org/ann/status/555", {}),
        ("@fleet what do you think?", {"answers": "1000", "in_reply_to_user_id": "42"}),
        ("@fleet I read https://x.com/ann/status/555 and still wonder: how long?", {}),
    ],
)
def test_without_a_post_to_look_at_the_question_is_answered(text: str, fields: dict[str, str]) -> None:
    found = judged(text, **fields)
    assert (found.kind, found.request, found.subject) == ("direct", "answer", None)


def test_a_short_link_is_read_by_what_it_stands_for() -> None:
    link = {"url": "https://t.co/abc", "expanded_url": "https://x.com/ann/status/555"}
    found = judged("@fleet check out this: https://t.co/abc", entities={"urls": [link]})
    assert found.subject == "555"


@pytest.mark.parametrize(
    "text",
    [
        "stop",
        "STOP",
        "Stop!",
        "please stop",
        "stop it please",
        "Stop. I never asked for this.",
        "no, stop",
        "unsubscribe",
        "please don't reply to me",
        "Please don\u2019t reply to me",
        "please stop replying to me.",
        "stop mentioning me, thanks",
        "can you stop tagging me",
        "I want you to stop replying",
        "stop liking my posts",
        "please stop engaging with my posts",
        "quit replying to my posts",
        "I asked you to stop",
        "I have told you to stop replying to me",
        "don't @ me",
        "S T O P",
        "s\u200btop",
        "leave me alone",
        "Enough. Leave me alone",
        "never reply to me again",
        "do not reply",
        "I opt out",
        "how do I unsubscribe?",
    ],
)
def test_an_order_to_stop_is_an_opt_out(text: str) -> None:
    assert asks_to_stop(text)
    found = judged(f"@fleet {text}")
    assert (found.request, found.reason) == ("opt_out", None)


@pytest.mark.parametrize(
    "text",
    [
        "don't stop",
        "please don't stop!",
        "never stop posting",
        "why did you stop replying to me?",
        "stop by our garden",
        "full stop",
        "I asked her to stop",
        "don't quit your garden",
        "a b c d of gardens",
        "I can't stop reading this",
        "the bus stop is new",
        "when do I stop watering",
        "don't mention it",
        "don't bother",
        "I don't follow",
        "how do I stop the snails?",
        "non-stop reading",
        "please don't stop replying to me",
        "they never reply to me",
        "",
    ],
)
def test_words_that_only_look_like_it_are_no_opt_out(text: str) -> None:
    assert not asks_to_stop(text)
    assert judged(f"@fleet {text}").request != "opt_out"


def test_a_bare_stop_to_somebody_else_in_the_thread_is_no_opt_out() -> None:
    found = judged("@ann @fleet stop", answers="3000", in_reply_to_user_id="7")
    assert found.request == "none"


def test_looking_is_asked_for_by_phrases() -> None:
    assert asks_to_look("Check this out")
    assert not asks_to_look("I checked the oven")


def test_html_escapes_of_the_platform_are_read_through() -> None:
    assert judged("@fleet bread &amp; butter, what do you think?").kind == "direct"


@given(st.text(alphabet="@fleet .,:!?\n'stop hey#/\u2019\uff20", max_size=400))
def test_whatever_the_text_a_judgement_is_given(text: str) -> None:
    found = judged(text)
    assert (found.reason is None) == (found.request != "none")


@pytest.mark.timed
@pytest.mark.parametrize(
    "piece", ["@fleet ", "hey, ", "stop, ", "@fleet's ", " ", "please ", "@a,: ", "but "]
)
def test_a_hostile_text_costs_little(piece: str) -> None:
    started = time.perf_counter()
    judged((piece * 12_500)[:25_000])
    assert time.perf_counter() - started < 1
