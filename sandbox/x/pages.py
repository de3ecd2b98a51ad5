"""Pages: posts as a person reads them in a browser; every text is escaped, nothing is scripted."""

from collections.abc import Sequence
from html import escape

from sandbox.x import views
from sandbox.x.posts import Post
from sandbox.x.store import Store

_FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 38rem; margin: 2rem auto; padding: 0 1rem }}
article {{ border: 1px solid #8886; border-radius: .75rem; padding: 1rem; margin: 1rem 0 }}
p {{ white-space: pre-wrap; overflow-wrap: anywhere; margin: .5rem 0 }}
small, a {{ color: #667 }}
@media (prefers-color-scheme: dark) {{ body {{ background: #111; color: #ddd }} small, a {{ color: #99a }} }}
</style></head><body><h1>{title}</h1>{body}</body></html>
"""


def timeline(store: Store, posts: Sequence[Post], now_ms: int) -> str:
    """The account's latest posts."""
    body = "".join(_article(store, post, now_ms) for post in posts) or "<p>No post yet.</p>"
    return _FRAME.format(title=f"@{escape(store.account.username)} in the X sandbox", body=body)


def post_page(store: Store, post: Post, now_ms: int) -> str:
    """One post."""
    return _FRAME.format(title="A post in the X sandbox", body=_article(store, post, now_ms))


def missing_page() -> str:
    """The answer for a post that isn't there."""
    return _FRAME.format(title="No such post", body="<p>The X sandbox has no post with this id.</p>")


def _article(store: Store, post: Post, now_ms: int) -> str:
    author = store.user(post.author_id)
    found = views.metrics(store, post, now_ms)
    return (
        f"<article><small>@{escape(author.username if author else '?')} · "
        f'<a href="/posts/{post.id}">{views.time(post.created_ms)}</a></small>'
        f"<p>{escape(post.text)}</p>"
        f"<small>{found.replies} replies · {found.retweets} reposts · {found.likes} likes · "
        f"{found.impressions} views</small></article>"
    )
