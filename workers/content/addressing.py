"""Addressing: whether a post that names the account speaks to it, and what it asks for.

A post is *direct* when one of these holds; everything else is *indirect* and is never answered:

1. It answers a post of the account's own (`in_reply_to_user_id` is the account).
2. It answers nothing and opens with the account's handle, alone or among others ("@ann @fleet what now?").
3. It answers somebody else's post, its author wrote the handle at the beginning himself, and it is not merely
   inherited. X carries the names of a thread into the leading run of handles of each reply. The handle was
   inherited when the answered post was by the account or names it; when that post is not known, a handle in
   the run counts as inherited.
4. Behind the leading run it calls the account by its handle: at the beginning of a clause ("Lovely. @fleet,
   how do you do it?", "hey @fleet"), between commas, or at the end of a clause that asks or says "you" or
   "please" ("what do you think @fleet?"). A handle that a preposition or a sentence carries is talk about the
   account: "I agree with @fleet about gardens".

Reposts are never direct; a quote is, when what is written above it calls the account by these rules.
What a post *asks for* is looked up in lists of phrases (`workers.content.requests`): no model decides it.
"""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass

from coordination.interactions import Kind, Request
from workers.content.requests import asks_to_look, asks_to_stop
from workers.platforms.x import Post

SEEN = 2000
"""Characters that are looked at: a post of X's usual length and then some."""
CLOSE = 80  # characters before a name that decide whether it is called
HANDLE = r"[@\uff20](\w{1,15})(?!\w)"
POSSESSIVE = r"['\u2019]s\b"
LEADING_RUN = re.compile(rf"(?:\s*\.?{HANDLE}(?!{POSSESSIVE})[\s,:]*)*", re.ASCII)
NAMED = re.compile(rf"(?<![\w@\uff20/]){HANDLE}", re.ASCII)
STATUS = re.compile(
    r"https?://([^/\s]+)/[^/\s]+/status(?:es)?/([0-9]{1,19})(?![0-9])", re.ASCII | re.IGNORECASE
)
X_HOSTS = frozenset(
    {"x.com", "www.x.com", "mobile.x.com", "twitter.com", "www.twitter.com", "mobile.twitter.com"}
)
# What may stand between a clause's beginning and a name that is called.
CALLING = re.compile(
    r"(?:^|[.!?,:;\n\u2026\u2014()\"\u201c-])\s*"
    r"(?:(?:hey|hi|hello|hallo|ok|okay|yo|dear|so|and|but|well|please|thanks|good morning)[\s,]+)*$",
    re.IGNORECASE,
)
CLAUSE_END = re.compile(r"\s*(?:https?://\S+\s*)*(?:$|[.!?,:;\n\u2026)])")
POSSESSED = re.compile(POSSESSIVE)
BESIDE = re.compile(rf"(?:{HANDLE}[\s,]*)+$")  # others called in the same breath
TOLD_OF = re.compile(
    r"\s+(?:is|was|has|had|says|said|writes|wrote|posts|posted|thinks|thought|does|did|also)\b", re.IGNORECASE
)
CARRIED = re.compile(
    r"\b(?:about|according to|after|against|as|at|because of|before|behind|by|for|from|in|into|like|of|on|"
    r"than|the|through|to|under|unlike|via|with|without|and|or|cc|ask|follow|see|read|love|thanks to)\s*$",
    re.IGNORECASE,
)
SPEAKING = re.compile(r"\?|\b(?:you|your|yours|yourself|please|pls|thanks|thank)\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Addressed:
    """Who the account is, for the one who reads its mentions.

    Attributes:
        user_id: the account's id on the platform.
        handle: its username.
        hosts: further hosts whose `/name/status/ID` links are posts, such as the sandbox's.
    """

    user_id: str
    handle: str
    hosts: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a post is to the account.

    Attributes:
        kind: whether it speaks to the account.
        summons: whether its author named the account or quoted it: the platform's rule for replies.
        request: what it asks for; `none` unless it is to be acted on.
        subject: the id of the post that it asks to look at.
        reason: why it is not acted on; None: it is.
        why: which rule decided.
    """

    kind: Kind
    summons: bool
    request: Request
    subject: str | None
    reason: str | None
    why: str


def judge(post: Post, to: Addressed, context: Mapping[str, Post]) -> Judgement:
    """Say what `post` is to the account; `context` holds the posts that came along, by id."""
    text = html.unescape(post.text)[:SEEN]
    named = is_named(post, to.handle)
    quoted = context.get(post.quoted or "")
    summons = named or (quoted is not None and quoted.author_id == to.user_id)
    if post.author_id == to.user_id:
        return _ignored("own", summons=False, reason="the account's own post")
    if post.is_repost or text.startswith("RT @"):
        return _ignored("indirect", summons=False, reason="a repost")
    run = _run(text)
    body = text[len(run) :]
    direct, why = _is_direct(post, to, context, named=named, run=run, body=body)
    words = _own_words(text, post)
    kind: Kind = "direct" if direct else "indirect"
    if (direct or _holds(body, to.handle)) and asks_to_stop(words, whole=direct):
        why = "asks to be left alone"
        return Judgement(kind=kind, summons=summons, request="opt_out", subject=None, reason=None, why=why)
    if not direct:
        return _ignored("indirect", summons=summons, reason=why)
    subject = _subject(post, to, context)
    is_bare = bool(subject) and subject != post.replied_to and not words
    request: Request = "analyse" if subject and (is_bare or asks_to_look(words)) else "answer"
    return Judgement(
        kind="direct",
        summons=summons,
        request=request,
        subject=subject if request == "analyse" else None,
        reason=None,
        why=why,
    )


def is_named(post: Post, handle: str) -> bool:
    """Whether the text names the handle: by the entities where the platform gave them, else as X reads it."""
    if post.mentions:
        return handle.lower() in post.mentions
    return _holds(post.text, handle)


def _is_direct(
    post: Post, to: Addressed, context: Mapping[str, Post], *, named: bool, run: str, body: str
) -> tuple[bool, str]:
    """Apply the module's rules in their order; with the reason, either way."""
    answers = post.replied_to is not None
    in_run = _holds(run, to.handle)
    parent = context.get(post.replied_to or "")
    foreign = parent is not None and parent.author_id != to.user_id and not is_named(parent, to.handle)
    rules = (
        (answers and post.in_reply_to_user_id == to.user_id, True, "answers the account"),
        (not named, False, "doesn't name the account"),
        (in_run and not answers, True, "opens with the account's handle"),
        (in_run and foreign, True, "its author called the account into the thread"),
        (_calls(body, to.handle), True, "calls the account by its handle"),
        (in_run, False, "the handle is inherited from the thread"),
    )
    for holds, direct, why in rules:
        if holds:
            return direct, why
    return False, "talks about the account, not to it"


def _run(text: str) -> str:
    """The handles that the text opens with."""
    found = LEADING_RUN.match(text)
    return found.group() if found else ""


def _holds(text: str, handle: str) -> bool:
    return any(match[1].lower() == handle.lower() for match in NAMED.finditer(text))


def _calls(body: str, handle: str) -> bool:
    """Whether some occurrence of the handle in the body is a call, not talk."""
    for match in NAMED.finditer(body):
        before, after = body[: match.start()][-CLOSE:], body[match.end() :]
        if match[1].lower() != handle.lower() or POSSESSED.match(after):
            continue
        before = BESIDE.sub("", before)
        if CALLING.search(before) and not TOLD_OF.match(after):
            return True
        clause = re.split(r"[.!\n]", before)[-1] + after[:2]
        if CLAUSE_END.match(after) and not CARRIED.search(before) and SPEAKING.search(clause):
            return True
    return False


def _own_words(text: str, post: Post) -> str:
    """The text's own words: no handles, no links."""
    for link in post.links:
        text = text.replace(link.short, " ")
    text = re.sub(r"https?://\S+", " ", text)
    return " ".join(NAMED.sub(" ", text).split()).strip(" ,:.")


def _subject(post: Post, to: Addressed, context: Mapping[str, Post]) -> str | None:
    """The post that it points at: a link to one, the quoted one, or somebody else's that it answers."""
    for link in post.links:
        found = STATUS.match(link.expanded)
        if found and found[1].lower() in X_HOSTS | to.hosts:
            return found[2]
    for found in STATUS.finditer(post.text):
        if found[1].lower() in X_HOSTS | to.hosts:
            return found[2]
    for other in (post.quoted, post.replied_to):
        if other is None:
            continue
        known = context.get(other)
        if known is not None and known.author_id == to.user_id:
            continue
        if known is None and other == post.replied_to and post.in_reply_to_user_id == to.user_id:
            continue
        return other
    return None


def _ignored(kind: Kind, *, summons: bool, reason: str) -> Judgement:
    return Judgement(kind=kind, summons=summons, request="none", subject=None, reason=reason, why=reason)
