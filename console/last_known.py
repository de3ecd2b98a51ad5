"""Last known: what the console tells while the database is away, each slot by whoever saw it last.

The database told the console of every host, some seconds before it went. This host's manager goes on seeing
its own slots, and writes down how they are: what it wrote later than that wins.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from console.local import LocalWord
from console.snapshots import Sight

# What a slot is when its manager alone knows of it: the rest of it stands in the database.
_UNTOLD: Mapping[str, Any] = {
    "healthy": False,
    "enabled": True,
    "lastRun": None,
    "errorRate": None,
    "restartCount": 0,
    "host": None,
    "assigned": True,
    "pid": None,
    "state": "LOST",
    "reason": "",
    "since": None,
    "step": None,
    "beatAgeSeconds": None,
    "memoryBytes": None,
    "cpuPercent": None,
    "failures": 0,
    "itemsPerMinute": None,
    "lastOutcome": None,
    "lastError": None,
    "health": {},
    "description": "",
}
# These a manager knows by itself.
_SEEN_HERE = (
    "name",
    "slot",
    "healthy",
    "enabled",
    "restartCount",
    "pid",
    "state",
    "reason",
    "since",
    "step",
    "beatAgeSeconds",
    "memoryBytes",
    "cpuPercent",
    "failures",
)

Item = dict[str, Any]


def slots(sight: Sight, word: LocalWord | None) -> list[Item]:
    """Give every slot by name as `/api/workers/status` has it, and who says so in `source`.

    `source` is `database`, or `manager` where this host's manager said it after the database did.
    """
    told = sight.snapshot.slots if sight.snapshot else []
    known = {(slot.name, slot.slot): slot.as_json() | {"source": "database"} for slot in told}
    if word is not None and (sight.snapshot is None or word.age_s < sight.age_s):
        for seen in word.slots:
            key = (seen["name"], seen["slot"])
            known[key] = {**(known.get(key) or _UNTOLD), **_seen_here(seen, word), "source": "manager"}
    return [known[key] for key in sorted(known)]


def stale(sight: Sight, word: LocalWord | None) -> Item:
    """Give since when nothing newer is known of the fleet, and for how long in seconds.

    A console that never read anything takes its manager's word for when the database answered last.
    """
    since, age_s = None, None
    if sight.snapshot:
        since, age_s = sight.snapshot.real_now, sight.age_s
    elif word and word.stale_since:
        since = word.stale_since
        age_s = max(0.0, (datetime.now(UTC) - since).total_seconds())
    return {"stale_since": since, "stale_for_s": None if age_s is None else round(age_s, 1)}


def answer(sight: Sight, items: Sequence[object], word: LocalWord | None = None) -> Item:
    """Give what a list answers while the database is away: why, since when, and what was known then.

    Args:
        sight: what the database told, and why it tells no more.
        items: the newest of what is known.
        word: what this host's manager said, where `items` may have some of it.
    """
    local = {} if word is None else {"local": word.as_json()}
    return {
        "error": {"message": sight.fault},
        **stale(sight, word),
        **local,
        "last_known": items,
    }


def _seen_here(seen: Mapping[str, Any], word: LocalWord) -> Item:
    item = {name: seen[name] for name in _SEEN_HERE if name in seen}
    if word.is_silent and item["state"] != "STOPPED":
        # As the database says of a host that it does not hear: nobody knows whether the process lives.
        reason = f"its manager is silent since {word.at:%H:%M:%S} UTC; it was {item['state']}"
        item |= {"state": "LOST", "healthy": False, "reason": reason}
    return item
