"""Posts: made, looked up by id."""

import json
from typing import Any, cast

from sandbox.x import parameters, views
from sandbox.x import text as texts
from sandbox.x.answers import Fault, Forbidden, InvalidRequest, not_found
from sandbox.x.call import Call, Endpoint
from sandbox.x.store import Store

DUPLICATE = "You are not allowed to create a Tweet with duplicate content."
TOO_LONG = (
    "Your Tweet text is too long. For more information on how Twitter determines text length "
    "see https://github.com/twitter/twitter-text."
)

# Fields that X's body has and this sandbox doesn't serve yet.
UNSERVED = (
    "card_uri",
    "community_id",
    "direct_message_deep_link",
    "edit_options",
    "for_super_followers_only",
    "geo",
    "made_with_ai",
    "media",
    "nullcast",
    "paid_partnership",
    "poll",
    "quote_tweet_id",
    "reply",
    "reply_settings",
    "share_with_followers",
)


def post_tweet(store: Store, call: Call) -> dict[str, Any]:
    """POST /2/tweets: a plain post."""
    call.query.allow()
    call.query.check()
    text = _read_text(call)
    if call.duplicates_checked and store.has_recent_text(text, call.now_ms):
        raise Forbidden(DUPLICATE)
    post = store.accept_post(text, lang=texts.language(text), at_ms=call.now_ms)
    return {"data": {"id": str(post.id), "text": post.text}}


def _read_text(call: Call) -> str:
    if call.content_type.partition(";")[0].strip().lower() != "application/json":
        raise InvalidRequest(
            Fault(message="Requests with bodies must have content-type of application/json.")
        )
    try:
        given = json.loads(call.body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(Fault(message=f"Request body is not valid JSON: {error}")) from error
    if not isinstance(given, dict):
        raise InvalidRequest(Fault(message='$: expected an object such as {"text": "Hello"}'))
    body = cast("dict[str, Any]", given)
    faults = [_refused(name) for name in body if name != "text"]
    text = body.get("text")
    if not isinstance(text, str):
        shown = "missing" if text is None else f"[{json.dumps(text)[:80]}]"
        faults.append(Fault(message=f"$.text: is {shown}, string expected"))
    elif not text.strip():
        faults.append(Fault(message="$.text: is empty: expected a text of 1 to 280 weighted characters"))
    elif texts.has_forbidden_character(text):
        faults.append(Fault(message="$.text: has U+FFFE, U+FEFF, U+FFFF or half a surrogate: not allowed"))
    if faults or not isinstance(text, str):
        raise InvalidRequest(*faults)
    if texts.weight(text) > texts.MAX_WEIGHT:
        raise InvalidRequest(Fault(message=TOO_LONG), detail=TOO_LONG)
    return text


def _refused(name: str) -> Fault:
    name = name.encode("utf-8", "backslashreplace").decode()  # a lone surrogate has no UTF-8
    if name in UNSERVED:
        return Fault(message=f"$.{name}: is not served by this sandbox yet: expected text alone")
    return Fault(
        message=f"$.{name}: is not defined in the schema and the schema does not allow additional properties"
    )


def get_tweets(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/tweets?ids=: up to 100 posts, in the order asked for; missing ones as errors beside them."""
    query = call.query
    query.allow("ids", *parameters.FIELDS)
    ids = query.ids("ids")
    fields = query.fields()
    query.check()
    found = {post_id: store.post(post_id) for post_id in ids}
    answer = views.several(store, [post for post in found.values() if post], fields, call.now_ms)
    if missing := [not_found("tweet", "ids", str(one)) for one, post in found.items() if post is None]:
        answer["errors"] = missing
    return answer


ENDPOINTS = (
    Endpoint(
        name="post_tweet",
        method="POST",
        path="/2/tweets",
        answer=post_tweet,
        who="user",
        scopes=("tweet.read", "tweet.write", "users.read"),
        status=201,
    ),
    Endpoint(name="get_tweets", method="GET", path="/2/tweets", answer=get_tweets),
)
