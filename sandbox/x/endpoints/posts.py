"""Posts: made, looked up by id, deleted; replies hidden."""

from typing import Any

from sandbox.x import text as texts
from sandbox.x import tiers
from sandbox.x.call import Call, Endpoint
from sandbox.x.posts import Post
from sandbox.x.store.store import Store
from sandbox.x.wire import bodies, drafts, parameters, views
from sandbox.x.wire.answers import Fault, Forbidden, InvalidRequest, not_found
from sandbox.x.wire.drafts import Draft

DUPLICATE = "You are not allowed to create a Tweet with duplicate content."
REPLY_GONE = "You attempted to reply to a Tweet that is deleted or not visible to you."
QUOTE_GONE = "The Tweet you attempted to quote is deleted or not visible to you."
BAD_MEDIA = "Your media IDs are invalid."
TWO_CASHTAGS = "You are not allowed to create a Post with more than one cashtag."
NOT_PERMITTED = "You are not permitted to perform this action."
NO_REPLY = "The Tweet is not a reply to one of your conversations: it can not be hidden."


def post_tweet(store: Store, call: Call) -> dict[str, Any]:
    """POST /2/tweets: a post, a reply or a quote."""
    call.query.allow()
    call.query.check()
    draft = drafts.read(call)
    conversation_id = _check(store, call, draft)
    post = store.accept_post(
        draft.text,
        lang=texts.language(draft.text),
        at_ms=call.now_ms,
        media_ids=draft.media_ids,
        reply_to=draft.reply_to,
        quote_of=draft.quote_of,
        conversation_id=conversation_id,
        reply_settings=draft.reply_settings,
        made_with_ai=draft.made_with_ai,
        paid_partnership=draft.paid_partnership,
    )
    return {"data": {"id": str(post.id), "text": post.text}}


def _check(store: Store, call: Call, draft: Draft) -> int | None:
    """The conversation that the draft joins; raises where the tier or X's rules refuse it."""
    if len(texts.names(draft.text, "cashtag")) > 1:
        raise Forbidden(TWO_CASHTAGS)
    if draft.quote_of is not None:
        tiers.check_quote(call.tier, call.client.id)
    replied = None if draft.reply_to is None else store.post(draft.reply_to)
    if draft.reply_to is not None:
        if replied is None:
            if call.tier == "free":
                raise tiers.NotEnrolled(call.client.id)
            raise Forbidden(REPLY_GONE)
        tiers.check_reply(store, call.tier, replied, call.client.id)
    if draft.quote_of is not None and store.post(draft.quote_of) is None:
        raise Forbidden(QUOTE_GONE)
    for media_id in draft.media_ids:
        upload = store.media.upload(media_id)
        if upload is None or not upload.is_ready(call.now_ms):
            raise InvalidRequest(Fault(message=BAD_MEDIA))
    if call.duplicates_checked and draft.text and store.has_recent_text(draft.text, call.now_ms):
        raise Forbidden(DUPLICATE)
    return None if replied is None else replied.conversation


def get_tweets(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/tweets?ids=: up to 100 posts, in the order asked for; missing ones as errors beside them."""
    query = call.query
    query.allow("ids", *parameters.FIELDS)
    ids = query.ids("ids")
    fields = query.fields()
    query.check()
    found = {post_id: store.post(post_id) for post_id in ids}
    posts = [post for post in found.values() if post]
    missing = [not_found("tweet", "ids", str(one)) for one, post in found.items() if post is None]
    return views.several(store, posts, fields, call, errors=missing)


def get_tweet(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/tweets/:id: one post."""
    query = call.query
    query.allow(*parameters.FIELDS)
    post_id = call.path_id()
    fields = query.fields()
    query.check()
    post = store.post(post_id)
    if post is None:
        return {"errors": [not_found("tweet", "id", str(post_id))]}
    return views.single(store, post, fields, call)


def delete_tweet(store: Store, call: Call) -> dict[str, Any]:
    """DELETE /2/tweets/:id: a post of the account's own."""
    post = _own_path_post(store, call)
    if post.author_id != store.account.id:
        raise Forbidden(NOT_PERMITTED)
    store.delete(post, call.now_ms)
    return {"data": {"deleted": True}}


def hide_reply(store: Store, call: Call) -> dict[str, Any]:
    """PUT /2/tweets/:id/hidden: hides a reply in one of the account's conversations, or shows it again."""
    body = bodies.read(call)
    body.allow("hidden")
    hidden = body.flag("hidden")
    if "hidden" not in body.values:
        body.fault("hidden", "is missing but it is required")
    body.check()
    post = _own_path_post(store, call)
    root = store.post(post.conversation)
    if post.reply_to is None or root is None or root.author_id != store.account.id:
        raise Forbidden(NO_REPLY)
    if store.is_hidden(post) != hidden:
        store.hide(post, hidden=hidden, at_ms=call.now_ms)
    return {"data": {"hidden": hidden}}


def _own_path_post(store: Store, call: Call) -> Post:
    """The post that the path names; raises InvalidRequest where there is none."""
    call.query.allow()
    post_id = call.path_id()
    call.query.check()
    post = store.post(post_id)
    if post is None:
        raise InvalidRequest(Fault(message="This tweet cannot be found."))
    return post


WRITE = ("tweet.read", "tweet.write", "users.read")

ENDPOINTS = (
    Endpoint(
        name="post_tweet",
        method="POST",
        path="/2/tweets",
        answer=post_tweet,
        who="user",
        scopes=WRITE,
        tiers=tiers.ALL,
        status=201,
    ),
    Endpoint(name="get_tweets", method="GET", path="/2/tweets", answer=get_tweets, tiers=tiers.ALL),
    Endpoint(name="get_tweet", method="GET", path="/2/tweets/{id}", answer=get_tweet, tiers=tiers.ALL),
    Endpoint(
        name="delete_tweet",
        method="DELETE",
        path="/2/tweets/{id}",
        answer=delete_tweet,
        who="user",
        scopes=WRITE,
        tiers=tiers.ALL,
    ),
    Endpoint(
        name="hide_reply",
        method="PUT",
        path="/2/tweets/{id}/hidden",
        answer=hide_reply,
        who="user",
        scopes=("tweet.read", "tweet.moderate.write", "users.read"),
    ),
)
