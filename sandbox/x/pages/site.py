"""Site: the pages' addresses, and what stands on each. Nothing is scripted, nothing comes from elsewhere."""

import importlib.resources
import re
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from sandbox.x import snowflakes
from sandbox.x.control.clock import Clock
from sandbox.x.control.faults import Faults
from sandbox.x.pages import frame
from sandbox.x.pages.cards import Cards
from sandbox.x.pages.frame import Situation
from sandbox.x.posts import Post
from sandbox.x.store.store import Span, Store
from sandbox.x.wire import search

PAGE = 40  # entries
ANSWERS = 100  # below a post
ANCESTORS = 20  # above it
REFRESH_S = 20
KINDS = {
    "all": ("Everything", ()),
    "posts": ("Posts", ("post",)),
    "replies": ("Answers", ("reply",)),
    "quotes": ("Quotes", ("quote",)),
    "likes": ("Likes", ("like",)),
}
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_STYLE = importlib.resources.files("sandbox.x.pages").joinpath("sandbox.css").read_text(encoding="utf-8")
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_USERNAME = re.compile(r"\w{1,20}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Site:
    """The pages of one sandbox; `live` lets its world happen up to a time (ms since 1970)."""

    store: Store
    clock: Clock
    faults: Faults
    live: Callable[[int], None]
    tier: str
    world: str

    async def style(self, _request: Request) -> Response:
        """GET /sandbox.css: the looks of all pages."""
        return Response(_STYLE, headers=HEADERS, media_type="text/css")

    async def timeline(self, request: Request) -> Response:
        """GET /?show=fleet|mentions|world: the newest first; `before` continues."""
        cards = self._cards()
        before = _number(request.query_params.get("before"))
        until_id = snowflakes.MAX_ID if before is None else before
        refresh_s = REFRESH_S if before is None else 0
        match request.query_params.get("show"):
            case "world":
                posts = self.store.newest_posts(until_id, PAGE)
                body = _posts(cards, posts, "/?show=world&amp;")
                return self._page("Whole world", body, tab="world", refresh_s=refresh_s)
            case "mentions":
                body = _posts(cards, self._mentions(until_id), "/?show=mentions&amp;")
                title = f"Who mentions @{self.store.account.username}"
                return self._page(title, body, tab="mentions", refresh_s=refresh_s)
            case _:
                body = self._acts(cards, request.query_params.get("kind", "all"), until_id)
                return self._page("What the fleet did", body, tab="fleet", refresh_s=refresh_s)

    async def post(self, request: Request) -> Response:
        """GET /posts/ID: a post, what it answers above it, what answers it below."""
        cards = self._cards()
        post_id = _number(request.path_params["post_id"])
        post = None if post_id is None else self.store.post(post_id)
        if post is None:
            return self._page("No such post", '<p class="empty">No post has this id.</p>', status=404)
        above = "".join(cards.post(one) for one in self._ancestors(post))
        answers = self.store.replies_to(post.id, ANSWERS)
        quotes = self.store.quotes_of(post.id, Span(), PAGE)
        body = above + cards.post(post, strong=True)
        for title, posts in (("Answers", answers), ("Quotes", quotes)):
            if posts:
                body += f"<h2>{title}</h2>" + "".join(cards.post(one) for one in posts)
        return self._page("A post and what hangs on it", body)

    async def person(self, request: Request) -> Response:
        """GET /people/NAME: who somebody is, and what they wrote."""
        cards = self._cards()
        name = request.path_params["name"]
        user = self.store.find_user(name) if _USERNAME.fullmatch(name) else None
        if user is None:
            return self._page("Nobody", '<p class="empty">Nobody has this name.</p>', status=404)
        before = _number(request.query_params.get("before"))
        span = Span() if before is None else Span(until_id=before)
        posts = self.store.posts_of(user.id, span, PAGE)
        body = cards.person(user) + _posts(cards, posts, f"/people/{user.username}?")
        return self._page(f"@{user.username}", body)

    def _acts(self, cards: Cards, kind: str, before: int) -> str:
        kind = kind if kind in KINDS else "all"
        links = "".join(
            f'<a href="/?kind={name}"{" aria-current=page" if name == kind else ""}>{label}</a>'
            for name, (label, _) in KINDS.items()
        )
        known = KINDS[kind][1] or tuple(self.store.acts.counts())
        acts = self.store.acts.latest(known, before=before, count=PAGE)
        shown = "".join(cards.act(act) for act in acts) or '<p class="empty">Nothing yet.</p>'
        older = f"/?kind={kind}&amp;before={acts[-1].seq}" if len(acts) == PAGE else ""
        return f'<nav class="kinds">{links}</nav>{shown}{_older(older)}'

    def _mentions(self, until_id: int) -> list[Post]:
        name = self.store.account.username
        match = f"({search.mark(f'at_{name}')}) NOT ({search.mark(f'from_{name}')})"
        return self.store.search(match, Span(until_id=until_id), PAGE)

    def _ancestors(self, post: Post) -> list[Post]:
        """What a post answers, the oldest first."""
        found: list[Post] = []
        parent = post.reply_to
        while parent is not None and len(found) < ANCESTORS and (one := self.store.post(parent)):
            found.append(one)
            parent = one.reply_to
        return found[::-1]

    def _cards(self) -> Cards:
        now_ms = self.clock.now_ms()
        self.live(now_ms)
        return Cards(self.store, now_ms)

    def _page(
        self, title: str, body: str, *, tab: str = "", refresh_s: int = 0, status: int = 200
    ) -> Response:
        situation = Situation(
            account=self.store.account.username,
            world=self.world,
            posts=self.store.count_posts(),
            tier=self.tier,
            clock=self.clock.view(),
            acts=self.store.acts.counts(),
            faults=[fault.view() for fault in self.faults.armed()],
        )
        whole = frame.page(situation, title, body, tab=tab, refresh_s=refresh_s)
        return HTMLResponse(whole, status, HEADERS)


def _number(given: str | None) -> int | None:
    """An id or a place in the record; None for what is none."""
    if given is None or not _NUMBER.fullmatch(given) or int(given) > snowflakes.MAX_ID:
        return None
    return int(given)


def _posts(cards: Cards, posts: list[Post], address: str) -> str:
    shown = "".join(cards.post(post) for post in posts) or '<p class="empty">No post yet.</p>'
    return shown + _older(f"{address}before={posts[-1].id}" if len(posts) == PAGE else "")


def _older(address: str) -> str:
    return f'<p class="older"><a href="{address}">Older</a></p>' if address else ""
