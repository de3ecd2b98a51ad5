"""The pool as the console shows it."""

from datetime import timedelta
from typing import Any

import pytest

from coordination import Fleet
from coordination.candidates import Find
from tests.integration.console.conftest import ConsoleProcess, until

PARTS: dict[str, Any] = {"freshness": {"value": 0.9, "weight": 20, "inputs": {"age_h": 2.4}}}


def offer(fleet: Fleet, **scores: float) -> None:
    now = fleet.candidates.pool("sandbox").now
    finds = [
        Find(
            platform_id=name.removeprefix("post_"),
            author_id="5",
            handle="ann",
            text=f"<b>{name}</b>",
            topic="gardens",
            origin="search",
            posted_at=now - timedelta(hours=2),
            metrics={"likes": 1},
            score=score,
            parts=PARTS,
        )
        for name, score in scores.items()
    ]
    fleet.candidates.offer("sandbox", finds, pool_size=10)


def test_candidates_are_listed_with_every_part_of_their_score(console: ConsoleProcess, fleet: Fleet) -> None:
    offer(fleet, post_1=40, post_2=80, post_3=60)
    (taken,) = fleet.candidates.take("sandbox", 1)
    fleet.candidates.decide("sandbox", taken.platform_id, "passed", reason="gone")
    items = console.json("/api/candidates")["items"]
    assert [(item["platform_id"], item["state"]) for item in items] == [
        ("3", "waiting"),
        ("1", "waiting"),
        ("2", "passed"),
    ]
    assert items[0]["parts"] == PARTS
    assert items[2]["reason"] == "gone"
    assert [i["platform_id"] for i in console.json("/api/candidates?state=passed,proposed")["items"]] == ["2"]
    assert len(console.json("/api/candidates?limit=1")["items"]) == 1


@pytest.mark.parametrize(
    ("query", "field"),
    [("state=waitin", "state"), ("limit=0", "limit"), ("limit=1&limit=2", "limit"), ("after=1", "parameter")],
)
def test_a_value_that_cannot_be_used_is_named(console: ConsoleProcess, query: str, field: str) -> None:
    answer = console.get(f"/api/candidates?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == field


def test_the_page_shows_the_best_that_wait(console: ConsoleProcess, fleet: Fleet) -> None:
    offer(fleet, post_1=40, post_2=80)
    until(lambda: bool(console.json("/api/overview")["pool"]["best"]))
    pool = console.json("/api/overview")["pool"]
    assert pool["states"] == {"waiting": 2}
    assert [candidate["score"] for candidate in pool["best"]] == [80, 40]
    assert pool["best"][0]["url"] == "http://127.0.0.1:1/posts/2"
