"""Drafts: the body of POST /2/tweets, checked field by field."""

from dataclasses import dataclass

from sandbox.x import text as texts
from sandbox.x.call import Call
from sandbox.x.wire import bodies
from sandbox.x.wire.answers import Fault, InvalidRequest
from sandbox.x.wire.bodies import Body

TOO_LONG = (
    "Your Tweet text is too long. For more information on how Twitter determines text length "
    "see https://github.com/twitter/twitter-text."
)
FIELDS = ("text", "reply", "quote_tweet_id", "media", "reply_settings", "made_with_ai", "paid_partnership")
REPLY_SETTINGS = ("following", "mentionedUsers", "subscribers", "verified")
MAX_MEDIA = 4
MAX_TAGGED = 10

# Fields that X's body has and this sandbox doesn't serve.
UNSERVED = (
    "card_uri",
    "community_id",
    "direct_message_deep_link",
    "edit_options",
    "for_super_followers_only",
    "geo",
    "nullcast",
    "poll",
    "share_with_followers",
)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What somebody wants to post: `text` as sent, empty where media stand for it."""

    text: str
    reply_to: int | None
    quote_of: int | None
    media_ids: tuple[int, ...]
    reply_settings: str
    made_with_ai: bool
    paid_partnership: bool


def read(call: Call) -> Draft:
    """The call's draft; raises InvalidRequest."""
    body = bodies.read(call)
    body.allow(*FIELDS, unserved=UNSERVED)
    media_ids = _media_ids(body)
    draft = Draft(
        text=_text(body, needed=not media_ids),
        reply_to=_reply_to(body),
        quote_of=body.id("quote_tweet_id"),
        media_ids=tuple(media_ids),
        reply_settings=body.one_of("reply_settings", REPLY_SETTINGS) or "everyone",
        made_with_ai=body.flag("made_with_ai"),
        paid_partnership=body.flag("paid_partnership"),
    )
    if draft.quote_of and draft.media_ids:
        body.fault("quote_tweet_id", "is not allowed together with media: expected one of the two")
    body.check()
    if texts.weight(draft.text) > texts.MAX_WEIGHT:
        raise InvalidRequest(Fault(message=TOO_LONG), detail=TOO_LONG)
    return draft


def _text(body: Body, *, needed: bool) -> str:
    text = body.text("text")
    if text is None:
        if needed and "text" not in body.values:
            body.fault("text", "is missing, string expected")
        return ""
    if not text.strip() and needed:
        body.fault("text", "is empty: expected a text of 1 to 280 weighted characters")
    elif texts.has_forbidden_character(text):
        body.fault("text", "has U+FFFE, U+FEFF, U+FFFF or half a surrogate: not allowed")
        return ""
    return text


def _reply_to(body: Body) -> int | None:
    reply = body.object("reply")
    if reply is None:
        return None
    reply.allow("in_reply_to_tweet_id", "exclude_reply_user_ids", "auto_populate_reply_metadata")
    reply.flag("auto_populate_reply_metadata")
    reply.ids("exclude_reply_user_ids", least=0, most=50)
    return reply.id("in_reply_to_tweet_id", required=True)


def _media_ids(body: Body) -> list[int]:
    media = body.object("media")
    if media is None:
        return []
    media.allow("media_ids", "tagged_user_ids")
    if "media_ids" not in media.values:
        media.fault("media_ids", "is missing but it is required")
    media.ids("tagged_user_ids", least=0, most=MAX_TAGGED)
    return media.ids("media_ids", least=1, most=MAX_MEDIA)
