"""Frame: what stands around every page: the tabs, and the sandbox's own state beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

TABS = (("fleet", "The fleet"), ("mentions", "Mentions"), ("world", "Whole world"))


@dataclass(frozen=True, kw_only=True)
class Situation:
    """The sandbox's own state.

    Attributes:
        account: The account's username.
        world: The name of other people's posts.
        posts: How many posts there are.
        tier: The account's access level.
        clock: The clock as JSON shows it.
        acts: How often the account did what.
        faults: The armed faults as JSON shows them.
    """

    account: str
    world: str
    posts: int
    tier: str
    clock: Mapping[str, Any]
    acts: Mapping[str, int]
    faults: Sequence[Mapping[str, Any]]


def page(situation: Situation, title: str, body: str, *, tab: str = "", refresh_s: int = 0) -> str:
    """A whole page; `title` is text, `body` HTML."""
    links = "".join(
        f'<a href="/?show={name}"{" aria-current=page" if name == tab else ""}>{label}</a>'
        for name, label in TABS
    )
    again = f'<meta http-equiv="refresh" content="{refresh_s}">' if refresh_s else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width">{again}'
        f"<title>{escape(title)} · X sandbox</title>"
        '<link rel="stylesheet" href="/sandbox.css"></head><body>'
        f'<header class="top"><a class="brand" href="/">X <b>sandbox</b></a><nav>{links}</nav></header>'
        f'<div class="columns"><main><h1>{escape(title)}</h1>{body}</main>'
        f"<aside>{_state(situation)}{_record(situation)}{_faults(situation)}</aside></div></body></html>\n"
    )


def _state(situation: Situation) -> str:
    now, _, clock = str(situation.clock["now"]).partition("T")
    rate = float(situation.clock["rate"])
    facts = (
        ("Date", escape(now)),
        ("Time", f"{escape(clock[:8])} UTC"),
        ("Pace", "real" if rate == 1 else f"{rate:g} times real"),
        ("Account", f'<a href="/people/{escape(situation.account)}">@{escape(situation.account)}</a>'),
        ("Tier", escape(situation.tier)),
        ("World", f"{escape(situation.world)}, {situation.posts:,} posts"),
    )
    return f"<section><h2>This sandbox</h2>{_list(facts)}</section>"


def _record(situation: Situation) -> str:
    facts = [(escape(action), f"{count:,}") for action, count in sorted(situation.acts.items())]
    shown = _list(facts) if facts else '<p class="quiet">Nothing yet.</p>'
    return (
        f"<section><h2>What the fleet wrote</h2>{shown}"
        '<p class="quiet"><a href="/_sandbox/writes">record</a> · '
        '<a href="/_sandbox/requests">requests</a> · <a href="/_sandbox/limits">limits</a></p></section>'
    )


def _faults(situation: Situation) -> str:
    rows = "".join(
        f'<li class="{"spent" if fault.get("left") == 0 else "armed"}"><b>{escape(str(fault["fault"]))}</b> '
        f'<code>{escape(str(fault["path"]))}</code> <span class="quiet">{_rule(fault)}</span></li>'
        for fault in situation.faults
    )
    shown = f'<ul class="faults">{rows}</ul>' if rows else '<p class="quiet">None: it behaves.</p>'
    return f"<section><h2>Faults</h2>{shown}</section>"


def _rule(fault: Mapping[str, Any]) -> str:
    if "count" in fault:
        rule = f"{fault['left']} of {fault['count']} left"
    elif "probability" in fault:
        rule = f"probability {fault['probability']:g}"
    else:
        rule = "until cleared"
    return f"{rule}, fired {fault['fired']}×"  # noqa: RUF001 - the sign for "times"


def _list(facts: Sequence[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{value}</dd>' for name, value in facts)}</dl>"
