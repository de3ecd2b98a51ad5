"""Search: X's query language, translated into an SQLite FTS5 expression.

    query  = any ;  any = all { OR all } ;  all = { [-] term } ;
    term   = ( any ) | "phrase" | word | #tag | @name | $CASH | from:name | to:name | conversation_id:n
           | is:retweet | is:reply | is:quote | has:links | lang:xx

Every post is indexed in two columns: `body` (its text) and `marks`, one word for each fact that isn't
text. A negation needs something to subtract from, so each post also has the mark `post`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from sandbox.x import text as texts
from sandbox.x.posts import PlainPost, Post

MAX_QUERY = 4096  # characters
MAX_DEPTH = 20  # groups in groups; SQLite's own parser gives up at about a hundred
_TOKEN = re.compile(
    r'\s*(?:(?P<negation>-(?=\S))?(?:(?P<open>\()|(?P<phrase>"[^"]*")|(?P<word>[^\s()"]+))|(?P<close>\)))'
)
_NAME = re.compile(r"@?(\w{1,20})", re.ASCII)
_OPERATOR = re.compile(r"([a-z_]+):(.*)", re.DOTALL)
_SIGNS: tuple[tuple[texts.Kind, str], ...] = (("hashtag", "tag"), ("mention", "at"), ("cashtag", "cash"))
_ID = re.compile(r"[0-9]{1,19}")
_KINDS = ("is:retweet", "is:reply", "is:quote", "has:links")
_LANG = re.compile(r"[a-z]{2,3}(-[A-Za-z]{2,4})?")
_LETTER = re.compile(r"[^\W_]")


class QueryError(ValueError):
    """The query can't be read; the text says which part, and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class _Clause:
    """An FTS5 expression; `alone` tells whether X would take it as a query of its own."""

    match: str
    alone: bool


def marks(post: Post | PlainPost, username: str) -> str:
    """The words of a post's `marks` column; `username` is its author's."""
    text = post.text
    words = f"post from_{username} lang_{post.lang}"
    # A sign that isn't there costs no look through the text: a world has many posts.
    if "@" in text or "\uff20" in text:
        names = texts.names(text, "mention")
        words += "".join(f" at_{name}" for name in names)
        if names and post.reply_to and text[0] in "@\uff20":
            words += f" to_{names[0]}"
    if "#" in text or "\uff03" in text:
        words += "".join(f" tag_{name}" for name in texts.names(text, "hashtag"))
    if "$" in text:
        words += "".join(f" cash_{re.sub(r'[._]', '_', name)}" for name in texts.names(text, "cashtag"))
    if "://" in text:
        words += " has_links"
    if post.conversation_id:
        words += f" conversation_{post.conversation_id}"
    if post.repost_of or texts.is_retweet(text):
        words += " is_retweet"
    if post.reply_to:
        words += " is_reply"
    if post.quote_of:
        words += " is_quote"
    return words


def mark(word: str) -> str:
    """The expression for posts that have a mark."""
    return f'marks : "{word}"'


def expression(query: str) -> str:
    """The FTS5 expression of a query; raises QueryError."""
    if not query.strip():
        raise QueryError("expected at least one word")
    if len(query) > MAX_QUERY:
        raise QueryError(f"has {len(query)} characters: expected at most {MAX_QUERY}")
    return _Reader(query).read()


class _Reader:
    """Reads one query from left to right."""

    _END: ClassVar[tuple[str, str, bool]] = ("end", "", False)

    def __init__(self, query: str) -> None:
        self._tokens = list(_split(query))
        self._next = 0
        self._depth = 0

    def read(self) -> str:
        clause = self._any()
        if self._peek()[0] == "close":
            raise QueryError("has a ')' without its '('")
        if not clause.alone:
            raise QueryError(
                "expected at least one word, phrase, #tag, @name, $CASH, from:, to: or conversation_id: "
                "that isn't negated (on each side of an OR): is:, has:, lang: and negations only narrow"
            )
        return clause.match

    def _peek(self) -> tuple[str, str, bool]:
        return self._tokens[self._next] if self._next < len(self._tokens) else self._END

    def _any(self) -> _Clause:
        clauses = [self._all()]
        while self._peek()[:2] == ("word", "OR"):
            self._next += 1
            clauses.append(self._all())
        if len(clauses) == 1:
            return clauses[0]
        return _Clause(
            match="(" + " OR ".join(clause.match for clause in clauses) + ")",
            alone=all(clause.alone for clause in clauses),
        )

    def _all(self) -> _Clause:
        wanted: list[_Clause] = []
        unwanted: list[_Clause] = []
        while (token := self._peek())[0] not in {"close", "end"} and token[:2] != ("word", "OR"):
            self._next += 1
            (unwanted if token[2] else wanted).append(self._term(*token[:2]))
        if not wanted and not unwanted:
            raise QueryError("has an empty group or an OR without something on both sides")
        match = " AND ".join(clause.match for clause in wanted) or mark("post")
        if unwanted:
            match = f"({match}) NOT ({' OR '.join(clause.match for clause in unwanted)})"
        return _Clause(match=f"({match})", alone=any(clause.alone for clause in wanted))

    def _term(self, kind: str, value: str) -> _Clause:
        if kind == "open":
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise QueryError(f"has groups in groups more than {MAX_DEPTH} deep")
            clause = self._any()
            if self._peek()[0] != "close":
                raise QueryError("has a '(' without its ')'")
            self._next += 1
            self._depth -= 1
            return clause
        if kind == "phrase":
            return _Clause(match=_in_body(value[1:-1]), alone=True)
        return _word(value)


def _split(query: str) -> Iterator[tuple[str, str, bool]]:
    """The query's tokens as kind, text and whether a minus stands before it."""
    position, end = 0, len(query.rstrip())
    while position < end:
        match = _TOKEN.match(query, position)
        if match is None:
            raise QueryError(f"has a '\"' without its pair at character {position + 1}")
        kind = next(name for name in ("open", "phrase", "word", "close") if match[name])
        yield kind, match[kind], match["negation"] is not None
        position = match.end()


def _word(value: str) -> _Clause:
    for kind, sign in _SIGNS:
        found = texts.entities(value, kind)
        if found and (found[0].start, found[0].end) == (0, len(value)):
            name = found[0].name.replace(".", "_")
            return _Clause(match=mark(f"{sign}_{name}"), alone=True)
    operator = _OPERATOR.fullmatch(value)
    if operator is None or operator[2].startswith("//"):
        return _Clause(match=_in_body(value), alone=True)
    return _operation(value, operator[1], operator[2])


def _operation(value: str, name: str, argument: str) -> _Clause:
    match name:
        case "from" | "to" if user := _NAME.fullmatch(argument):
            return _Clause(match=mark(f"{name}_{user[1]}"), alone=True)
        case "conversation_id" if _ID.fullmatch(argument):
            return _Clause(match=mark(f"conversation_{int(argument)}"), alone=True)
        case "is" | "has" if value in _KINDS:
            return _Clause(match=mark(f"{name}_{argument}"), alone=False)
        case "lang" if _LANG.fullmatch(argument):
            return _Clause(match=mark(f"lang_{argument.replace('-', '_')}"), alone=False)
        case _:
            raise QueryError(
                f"has '{value}': expected a word, \"phrase\", #tag, @name, $CASH, from:NAME, to:NAME, "
                f"conversation_id:ID, {', '.join(_KINDS)} or lang:CODE "
                f"(the sandbox serves no other operator)"
            )


def _in_body(words: str) -> str:
    if not _LETTER.search(words):
        raise QueryError(
            f"has '{words}': expected a letter or a digit in it: the sandbox searches no symbols"
        )
    # SQLite reads an expression up to its first NUL.
    return 'body : "' + words.replace('"', '""').replace("\0", " ") + '"'
