"""Tiers: what each access level may do, and the refusals that say which rule it is.

free         posts, deletes, look-ups and the account's own timeline
pay_per_use  also searches, mentions, reposts, and replies where it was summoned; no quotes, likes, follows
enterprise   everything
"""

from sandbox.x import text as texts
from sandbox.x.posts import Post, User
from sandbox.x.store.store import Store
from sandbox.x.wire.answers import PROBLEMS, Forbidden, Problem

ALL = ("free", "pay_per_use", "enterprise")
PAID = ("pay_per_use", "enterprise")
ENTERPRISE = ("enterprise",)

NOT_SUMMONED = (
    "Reply to this conversation is not allowed because you have not been mentioned or otherwise engaged by "
    "the author of the post you are replying to."
)
ANSWERED = "Reply to this conversation is not allowed because you have already replied to this interaction."
NO_QUOTES = "Quote posts through the API are available to enterprise access only."


class NotEnrolled(Problem):
    """The access level doesn't include the endpoint."""

    def __init__(self, client_id: str, enrollment: str = "Appropriate Level of API Access") -> None:
        super().__init__(
            403,
            "Client Forbidden",
            "When authenticating requests to the Twitter API v2 endpoints, you must use keys and tokens from "
            "a Twitter developer App that is attached to a Project. You can create a project via the "
            "developer portal.",
            type_=f"{PROBLEMS}/client-forbidden",
        )
        del self.body["status"]  # X leaves it out of this one
        self.body |= {
            "client_id": client_id,
            "required_enrollment": enrollment,
            "reason": "client-not-enrolled",
            "registration_url": "https://developer.twitter.com/en/docs/projects/overview",
        }


def check_endpoint(tier: str, allowed: tuple[str, ...], client_id: str) -> None:
    """Raises NotEnrolled where the tier is not among those that an endpoint serves."""
    if tier not in allowed:
        enrollment = "Enterprise" if allowed == ENTERPRISE else "Appropriate Level of API Access"
        raise NotEnrolled(client_id, enrollment)


def check_reply(store: Store, tier: str, target: Post, client_id: str) -> None:
    """Raises where the account may not answer the post: the tier's rule, then the author's own."""
    if target.author_id == store.account.id:
        return  # a thread goes on
    if tier == "free":
        raise NotEnrolled(client_id)
    if tier == "pay_per_use":
        if not is_summons(store, target):
            raise Forbidden(NOT_SUMMONED)
        if store.has_own_reply(target.id):
            raise Forbidden(ANSWERED)
    _check_reply_settings(store, target)


def check_quote(tier: str, client_id: str) -> None:
    """Raises where the tier has no quotes."""
    if tier == "free":
        raise NotEnrolled(client_id)
    if tier != "enterprise":
        raise Forbidden(NO_QUOTES)


def is_summons(store: Store, post: Post) -> bool:
    """Whether the post's author calls the account: by its name in the text, or by quoting a post of its."""
    if _mentions(post, store.account):
        return True
    quoted = store.post(post.quote_of) if post.quote_of else None
    return quoted is not None and quoted.author_id == store.account.id


def _mentions(post: Post, user: User) -> bool:
    return user.username.lower() in (name.lower() for name in texts.names(post.text, "mention"))


def _check_reply_settings(store: Store, target: Post) -> None:
    """The author of a conversation decides who may answer in it; whom it names always may."""
    root = store.post(target.conversation) or target
    if root.reply_settings == "everyone" or _mentions(root, store.account):
        return
    if root.reply_settings == "following" and store.people.follows(root.author_id, store.account.id):
        return
    raise Forbidden(NOT_SUMMONED)
