"""Parameters: what the query of a read may hold, checked as X checks it, with X's messages."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sandbox.x import snowflakes
from sandbox.x.store.store import Span
from sandbox.x.wire.answers import Fault, InvalidRequest, not_one_of

TWEET_FIELDS = (
    "article",
    "attachments",
    "author_id",
    "card_uri",
    "community_id",
    "context_annotations",
    "conversation_id",
    "created_at",
    "display_text_range",
    "edit_controls",
    "edit_history_tweet_ids",
    "entities",
    "geo",
    "id",
    "in_reply_to_user_id",
    "lang",
    "made_with_ai",
    "media_metadata",
    "non_public_metrics",
    "note_tweet",
    "organic_metrics",
    "paid_partnership",
    "possibly_sensitive",
    "promoted_metrics",
    "public_metrics",
    "referenced_tweets",
    "reply_settings",
    "scopes",
    "source",
    "suggested_source_links",
    "text",
    "withheld",
)
USER_FIELDS = (
    "affiliation",
    "connection_status",
    "created_at",
    "description",
    "entities",
    "id",
    "location",
    "most_recent_tweet_id",
    "name",
    "parody",
    "pinned_tweet_id",
    "profile_banner_url",
    "profile_image_url",
    "protected",
    "public_metrics",
    "receives_your_dm",
    "subscription_type",
    "url",
    "username",
    "verified",
    "verified_followers_count",
    "verified_type",
    "withheld",
)
MEDIA_FIELDS = (
    "alt_text",
    "duration_ms",
    "height",
    "media_key",
    "non_public_metrics",
    "organic_metrics",
    "preview_image_url",
    "promoted_metrics",
    "public_metrics",
    "type",
    "url",
    "variants",
    "width",
)
POLL_FIELDS = ("duration_minutes", "end_datetime", "id", "options", "voting_status")
PLACE_FIELDS = ("contained_within", "country", "country_code", "full_name", "geo", "id", "name", "place_type")
EXPANSIONS = (
    "attachments.media_keys",
    "attachments.poll_ids",
    "author_id",
    "edit_history_tweet_ids",
    "entities.mentions.username",
    "geo.place_id",
    "in_reply_to_user_id",
    "referenced_tweets.id",
    "referenced_tweets.id.attachments.media_keys",
    "referenced_tweets.id.author_id",
)
USER_EXPANSIONS = ("affiliation.user_id", "most_recent_tweet_id", "pinned_tweet_id")

# X's newer names, and the older ones that mean the same.
RENAMED = {
    "edit_history_post_ids": "edit_history_tweet_ids",
    "most_recent_post_id": "most_recent_tweet_id",
    "note_post": "note_tweet",
    "pinned_post_id": "pinned_tweet_id",
    "referenced_posts": "referenced_tweets",
    "referenced_posts.id": "referenced_tweets.id",
    "referenced_posts.id.attachments.media_keys": "referenced_tweets.id.attachments.media_keys",
    "referenced_posts.id.author_id": "referenced_tweets.id.author_id",
}

USER_LISTING = ("user.fields", "tweet.fields", "post.fields", "expansions")
FIELDS = (*USER_LISTING, "media.fields", "poll.fields", "place.fields")
LISTING = ("since_id", "until_id", "start_time", "end_time", "max_results", "pagination_token")

_ID = re.compile(r"[0-9]{1,19}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
_TOKEN = re.compile(r"b26v89c19zqg([0-9a-z]{1,13})")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, kw_only=True)
class Fields:
    """What an answer shall show of each post, user and medium besides the defaults, in X's older names.

    `newer` tells that it was asked for in the newer ones (post.fields, referenced_posts), and is answered so.
    """

    tweet: frozenset[str] = frozenset()
    user: frozenset[str] = frozenset()
    media: frozenset[str] = frozenset()
    expansions: frozenset[str] = frozenset()
    newer: bool = False

    @property
    def posts(self) -> str:
        """Where `includes` holds posts."""
        return "posts" if self.newer else "tweets"


@dataclass(kw_only=True)
class Query:
    """A request's parameters; every fault is kept, and `check` raises them all at once."""

    values: Sequence[tuple[str, str]]
    faults: list[Fault] = field(default_factory=list[Fault])

    def check(self) -> None:
        """Raises InvalidRequest with every fault found so far."""
        if self.faults:
            raise InvalidRequest(*self.faults)

    def allow(self, *names: str) -> None:
        """Refuses parameters outside `names`, and ones that stand twice."""
        seen: set[str] = set()
        for name, value in self.values:
            if name not in names:
                message = f"The query parameter [{name}] is not one of [{','.join(sorted(names))}]"
                self._fault(name, value, message)
            elif name in seen:
                self._fault(name, value, f"The `{name}` query parameter is given more than once")
            seen.add(name)

    def get(self, name: str) -> str | None:
        """The parameter's value."""
        return next((value for key, value in self.values if key == name), None)

    def required(self, name: str) -> str:
        """The value of a parameter that must be there and not be empty."""
        value = self.get(name)
        if not value:
            self._fault(name, value or "", f"The `{name}` query parameter can not be empty")
        return value or ""

    def ids(self, name: str, most: int = 100) -> list[int]:
        """A list of 1 to `most` ids."""
        values = self.required(name).split(",")
        if len(values) > most:
            message = (
                f"The `{name}` query parameter has {len(values)} values, which is not between 1 and {most}"
            )
            self._fault(name, ",".join(values), message)
        found = [self._id(name, value) for value in values if value or len(values) > 1]
        return list(dict.fromkeys(found))

    def fields(self) -> Fields:
        """The field lists and expansions."""
        self._list("poll.fields", POLL_FIELDS)
        self._list("place.fields", PLACE_FIELDS)
        return self._fields(EXPANSIONS, media=self._list("media.fields", MEDIA_FIELDS))

    def user_fields(self, *names: str) -> Fields:
        """The field lists and expansions of an answer of users, checked; `names` are more parameters."""
        self.allow(*names, *USER_LISTING)
        fields = self._fields(USER_EXPANSIONS)
        self.check()
        return fields

    def _fields(self, expansions: Sequence[str], media: frozenset[str] = frozenset()) -> Fields:
        newer = {new for new, old in RENAMED.items() if old in TWEET_FIELDS}
        posts = self._list("post.fields", (*TWEET_FIELDS, *sorted(newer)))
        also = {new for new, old in RENAMED.items() if old in expansions}
        expanded = self._list("expansions", (*expansions, *sorted(also)))
        return Fields(
            tweet=self._list("tweet.fields", TWEET_FIELDS) | _older(posts),
            user=_older(self._list("user.fields", (*USER_FIELDS, "most_recent_post_id", "pinned_post_id"))),
            media=media,
            expansions=_older(expanded),
            newer=bool(posts or expanded & also),
        )

    def position(self, name: str) -> int:
        """The id below which a page begins: the one that a token stands for, or the greatest."""
        return self._optional(name, self._position) or snowflakes.MAX_ID

    def max_results(self, *, least: int, most: int, usual: int = 10) -> int:
        """How many items the answer may hold; `usual` unless told."""
        value = self.get("max_results")
        if value is None:
            return usual
        if not re.fullmatch(r"[0-9]{1,9}", value) or not least <= int(value) <= most:
            message = f"The `max_results` query parameter value [{value}] is not between {least} and {most}"
            self._fault("max_results", value, message)
            return least
        return int(value)

    def span(self, *tokens: str) -> Span:
        """Which posts are asked for; `tokens` names the parameters that continue a list."""
        since_id = self._optional("since_id", self._id) or 0
        until_id = self._optional("until_id", self._id) or snowflakes.MAX_ID
        for name in tokens:
            until_id = min(until_id, self._optional(name, self._position) or snowflakes.MAX_ID)
        start_ms = self._optional("start_time", self._time_ms)
        end_ms = self._optional("end_time", self._time_ms)
        start_ms = Span.start_ms if start_ms is None else start_ms
        end_ms = Span.end_ms if end_ms is None else end_ms
        if start_ms >= end_ms:
            message = "Invalid 'start_time'. 'start_time' must be before 'end_time'"
            self._fault("start_time", str(self.get("start_time")), message)
        return Span(since_id=since_id, until_id=until_id, start_ms=start_ms, end_ms=end_ms)

    def moment(self, name: str, *, usual_ms: int) -> int:
        """A time in milliseconds since 1970; `usual_ms` where it is missing."""
        found = self._optional(name, self._time_ms)
        return usual_ms if found is None else found

    def one_of(self, name: str, allowed: Sequence[str]) -> frozenset[str]:
        """A list of values out of `allowed`."""
        return self._list(name, allowed)

    def fault(self, name: str, message: str) -> None:
        """Keeps a fault that the caller found."""
        self._fault(name, self.get(name) or "", message)

    def _optional(self, name: str, read: Callable[[str, str], int]) -> int | None:
        value = self.get(name)
        return None if value is None else read(name, value)

    def _list(self, name: str, allowed: Sequence[str]) -> frozenset[str]:
        value = self.get(name)
        given = [] if value is None else value.split(",")
        self.faults += [not_one_of(name, one, allowed) for one in given if one not in allowed]
        return frozenset(given)

    def _id(self, name: str, value: str) -> int:
        if not _ID.fullmatch(value) or int(value) > snowflakes.MAX_ID:
            self._fault(
                name,
                value,
                f"The `{name}` query parameter value [{value}] is not valid: expected 1 to 19 digits",
            )
            return 0
        return int(value)

    def _time_ms(self, name: str, value: str) -> int:
        try:
            at = datetime.fromisoformat(value) if _TIME.fullmatch(value) else None
        except ValueError:
            at = None
        if at is None:
            message = (
                f"The `{name}` query parameter value [{value}] is not a valid RFC3339 timestamp: "
                "expected YYYY-MM-DDTHH:mm:ssZ"
            )
            self._fault(name, value, message)
            return 0
        return round(at.timestamp() * 1000)

    def _position(self, name: str, value: str) -> int:
        token = _TOKEN.fullmatch(value)
        position = int(token[1], 36) if token else 0
        if not 0 < position <= snowflakes.MAX_ID:
            message = (
                f"The `{name}` query parameter value [{value}] is not valid: "
                "expected the next_token of an answer"
            )
            self._fault(name, value, message)
        return position

    def _fault(self, name: str, value: str, message: str) -> None:
        self.faults.append(Fault(parameter=name, value=value, message=message))


def _older(names: frozenset[str]) -> frozenset[str]:
    return frozenset(RENAMED.get(name, name) for name in names)


def token(last_id: int) -> str:
    """The `next_token` of a list that ended with this post: what follows is older than it."""
    digits = ""
    while last_id:
        last_id, digit = divmod(last_id, 36)
        digits = _DIGITS[digit] + digits
    return f"b26v89c19zqg{digits}"
