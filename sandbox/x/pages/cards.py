"""Cards: posts, acts and people as HTML. Every text is escaped here, and nowhere else."""

from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape

from sandbox.x import text as texts
from sandbox.x.posts import Post, User
from sandbox.x.store.acts import Act
from sandbox.x.store.store import Store
from sandbox.x.wire.post_views import metrics

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
HUES = 8  # the stylesheet's colours for people
SAYS = {
    "post": "posted",
    "reply": "answered",
    "quote": "quoted",
    "like": "liked",
    "unlike": "takes a like back",
    "retweet": "reposted",
    "unretweet": "takes a repost back",
    "delete": "deleted a post",
    "hide": "hid an answer",
    "unhide": "shows an answer again",
    "bookmark": "bookmarked",
    "unbookmark": "takes a bookmark away",
    "follow": "followed",
    "unfollow": "follows no longer",
    "mute": "muted",
    "unmute": "hears again",
}
ON_PEOPLE = frozenset({"follow", "unfollow", "mute", "unmute"})


class Cards:
    """Cards of one moment."""

    def __init__(self, store: Store, now_ms: int) -> None:
        """Of what this store holds, as it stands at a time (ms since 1970)."""
        self._store = store
        self._now_ms = now_ms

    def post(self, post: Post, *, lead: str = "", strong: bool = False) -> str:
        """A post with its author, its counts and what it quotes; `lead` is HTML above it."""
        author = self._store.user(post.author_id)
        found = metrics(self._store, post, self._now_ms)
        counts = (
            (found.replies, "answer"),
            (found.retweets, "repost"),
            (found.quotes, "quote"),
            (found.likes, "like"),
            (found.impressions, "view"),
        )
        own = " own" if post.author_id == self._store.account.id else ""
        return (
            f'<article class="post{own}{" strong" if strong else ""}">{lead}'
            f"{self._byline(author, post)}{self.text(post)}{self._quoted(post)}"
            f"{_counts(counts)}</article>"
        )

    def act(self, act: Act) -> str:
        """A line of the record: the post that it made, or what it was done to."""
        says = SAYS.get(act.action, escape(act.action))
        when = self.moment(act.at_ms)
        if act.action in ON_PEOPLE:
            person = self._store.user(act.target or 0)
            return f'<article class="act">{self._lead(f"{says} {self.name(person)}", when)}</article>'
        target = self._store.post(act.target) if act.target else None
        made = self._store.post(act.made) if act.text is not None else None
        if made is not None:
            lead = self._lead(says, "") + (self._small(target) if target and act.action == "reply" else "")
            return self.post(made, lead=lead)
        if act.text is not None:
            gone = f'<p class="text gone">{escape(act.text)}</p><p class="quiet">deleted since</p>'
            return f'<article class="post own">{self._lead(says, when)}{gone}</article>'
        about = self._small(target) if target else '<p class="quiet">a post that is no longer there</p>'
        return f'<article class="act">{self._lead(says, when)}{about}</article>'

    def person(self, user: User) -> str:
        """Who somebody is."""
        counts = (
            (self._store.count_posts_of(user), "post"),
            (user.followers, "follower"),
            (user.following, "followed"),
        )
        about = f'<p class="text">{escape(user.description)}</p>' if user.description else ""
        place = f'<p class="quiet">{escape(user.location)}</p>' if user.location else ""
        return (
            f'<article class="person">{self._face(user)}<div><h2>{escape(user.name)}</h2>'
            f'<p class="quiet">@{escape(user.username)}</p></div>{about}{place}{_counts(counts)}</article>'
        )

    def text(self, post: Post) -> str:
        """A post's text; known names lead to their pages."""
        parts: list[str] = []
        done = 0
        for mention in texts.entities(post.text, "mention"):
            whole = escape(post.text[mention.start : mention.end])
            parts.append(escape(post.text[done : mention.start]))
            known = self._store.find_user(mention.name)
            parts.append(f'<a href="/people/{escape(known.username)}">{whole}</a>' if known else whole)
            done = mention.end
        return f'<p class="text">{"".join(parts)}{escape(post.text[done:])}</p>'

    def name(self, user: User | None) -> str:
        """A person's name as a link."""
        if user is None:
            return "somebody"
        return f'<a href="/people/{escape(user.username)}">@{escape(user.username)}</a>'

    def moment(self, at_ms: int) -> str:
        """How long ago it was, with the time itself on pointing at it."""
        age_ms = max(0, self._now_ms - at_ms)
        exact = datetime.fromtimestamp(at_ms / 1000, UTC)
        if age_ms < MINUTE_MS:
            ago = f"{age_ms // 1000} s ago"
        elif age_ms < HOUR_MS:
            ago = f"{age_ms // MINUTE_MS} min ago"
        elif age_ms < DAY_MS:
            ago = f"{age_ms // HOUR_MS} h ago"
        else:
            ago = f"{exact:%Y-%m-%d}"
        stamp = exact.isoformat(timespec="seconds").replace("+00:00", "Z")
        return f'<time datetime="{stamp}" title="{stamp}">{ago}</time>'

    def _lead(self, says: str, when: str) -> str:
        account = escape(self._store.account.username)
        return f'<p class="lead"><span>@{account} {says}</span> {when}</p>'

    def _byline(self, author: User | None, post: Post) -> str:
        name = escape(author.name) if author else "Somebody"
        return (
            f"<header>{self._face(author)}<div><strong>{name}</strong> "
            f'<span class="quiet">{self.name(author)} · '
            f'<a href="/posts/{post.id}">{self.moment(post.created_ms)}</a></span></div></header>'
        )

    def _face(self, user: User | None) -> str:
        letter = escape(user.name[:1].upper()) if user and user.name else "?"
        return f'<span class="face hue{user.id % HUES if user else 0}" aria-hidden="true">{letter}</span>'

    def _quoted(self, post: Post) -> str:
        quoted = self._store.post(post.quote_of) if post.quote_of else None
        return self._small(quoted) if quoted else ""

    def _small(self, post: Post) -> str:
        author = self._store.user(post.author_id)
        return (
            f'<blockquote><p class="quiet">{self.name(author)} · '
            f'<a href="/posts/{post.id}">{self.moment(post.created_ms)}</a></p>{self.text(post)}</blockquote>'
        )


def _counts(counts: Iterable[tuple[int, str]]) -> str:
    shown = (
        f"<li><b>{number:,}</b> {name if number == 1 else _plural(name)}</li>" for number, name in counts
    )
    return f'<ul class="counts">{"".join(shown)}</ul>'


def _plural(name: str) -> str:
    return name if name == "followed" else f"{name}s"
