"""Overview: a sight of the fleet as the page's JSON."""

from collections import Counter
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from console import last_known
from console.local import LocalWord
from console.snapshots import Row, Sight, Snapshot
from coordination.status import SlotStatus


def overview(sight: Sight, word: LocalWord | None) -> dict[str, Any]:
    """Give what `GET /api/overview` answers; without any snapshot only what `word` says is there.

    Args:
        sight: what the database told.
        word: what this host's manager says; None while the database answers, for then that knows more.
    """
    snapshot = sight.snapshot
    database = {
        "up": sight.fault is None,
        "reason": sight.fault,
        **(last_known.stale(sight, word) if sight.fault else {"stale_since": None, "stale_for_s": None}),
        "version": snapshot.server_version if snapshot else None,
    }
    workers = last_known.slots(sight, word) if sight.fault else [slot.as_json() for slot in _slots(snapshot)]
    local = word.as_json() if word else None
    return {
        "database": database,
        "local": local,
        "workers": workers,
        **(_fleet(snapshot) if snapshot else {}),
    }


def _slots(snapshot: Snapshot | None) -> list[SlotStatus]:
    return snapshot.slots if snapshot else []


def _fleet(snapshot: Snapshot) -> dict[str, Any]:
    states: Counter[str] = Counter()
    for row in snapshot.intent_counts:
        states[row["state"]] += row["number"]
    return {
        "now": snapshot.real_now,
        "fleet_now": snapshot.fleet_now,
        "manager_age_s": snapshot.manager_age_s,
        "kill_switch": dict(snapshot.kill_switch),
        "accounts": snapshot.accounts,
        "hosts": snapshot.hosts,
        "alerts": snapshot.alerts,
        "commands": snapshot.commands,
        "black_boxes": snapshot.black_boxes,
        "intents": {"states": states, "latest": snapshot.intents},
        "posts": {
            "number": sum(row["posts"] for row in snapshot.post_counts),
            "readings": sum(row["readings"] for row in snapshot.post_counts),
            "latest": [_post(row) for row in snapshot.posts],
        },
        "mentions": [_post(row) for row in snapshot.mentions],
        "pool": _pool(snapshot),
        "limits": snapshot.limits,
        "errors": [_error(row, snapshot) for row in snapshot.errors],
        "events": snapshot.events,
    }


def _pool(snapshot: Snapshot) -> dict[str, Any]:
    """How many candidates are in each state, and the best that wait."""
    states: Counter[str] = Counter()
    for row in snapshot.candidate_counts:
        states[row["state"]] += row["number"]
    return {"states": states, "best": [_post(row) for row in snapshot.candidates]}


def _post(row: Row) -> dict[str, Any]:
    hidden = {"api_url"}
    return {**{name: value for name, value in row.items() if name not in hidden}, "url": _post_url(row)}


def _post_url(row: Row) -> str | None:
    """Where a person sees the post: in the sandbox, or on X."""
    post = quote(str(row["platform_id"]), safe="")
    if not row["sandbox"]:
        return f"https://x.com/i/web/status/{post}"
    base = str(row["api_url"]).rstrip("/")
    return f"{base}/posts/{post}" if urlsplit(base).scheme in {"http", "https"} else None


def _error(row: Row, snapshot: Snapshot) -> dict[str, Any]:
    """Steps end in real time, items fail in fleet time: both are told as an age."""
    now = snapshot.real_now if row["real_time"] else snapshot.fleet_now
    age = now - row["at"] if row["at"] else timedelta()
    shown = {name: value for name, value in row.items() if name != "real_time"}
    return {**shown, "age_s": round(max(0.0, age.total_seconds()), 1)}
