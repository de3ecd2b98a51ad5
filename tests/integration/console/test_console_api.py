"""The console's API over a real fleet's database."""

from datetime import datetime

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from coordination import Fleet
from tests.integration.conftest import FleetDatabase
from tests.integration.console.conftest import ConsoleProcess, PaperHost, slot_report, until

HOSTILE = '<script>alert(1)</script><img src=x onerror="2"> & \u202e{{7*7}} 👩‍👩‍👧 \\"; DROP TABLE x'
ITEM = {
    "id",
    "account",
    "action",
    "target",
    "state",
    "text",
    "platform_id",
    "attempt",
    "reason",
    "updated_at",
}


def post(fleet: Fleet, platform_id: str | None = None, reason: str | None = None) -> str:
    """Send the next intent as the poster does; rejected when there is no platform_id."""
    claim = fleet.ledger.claim("sandbox", "poster/1")
    assert claim
    grant = fleet.rate_limits.can_make_request(claim.endpoint, "poster/1", account="sandbox")
    assert grant.grant_id
    cleared = fleet.ledger.begin_send(claim, grant.grant_id, "poster/1", http_deadline_s=13, fence_seen=0)
    assert cleared.sending
    fleet.ledger.settle(
        claim.intent,
        cleared.attempt,
        "posted" if platform_id else "rejected",
        "poster/1",
        platform_id=platform_id,
        status=201 if platform_id else 403,
        reason=reason,
    )
    return claim.intent


def test_what_was_posted_is_shown_with_its_latest_reading_and_a_link(
    console: ConsoleProcess, fleet: Fleet
) -> None:
    fleet.ledger.propose("sandbox", "post", "plan:1", HOSTILE)
    intent = post(fleet, "1900")
    fleet.readings.append("sandbox", "1900", {"like_count": 1}, next_in_s=60)
    fleet.readings.append("sandbox", "1900", {"like_count": 5, "reply_count": 2}, next_in_s=60)
    until(lambda: console.json("/api/overview")["posts"]["readings"] == 2)
    posts = console.json("/api/overview")["posts"]
    assert posts["number"] == 1
    (shown,) = posts["latest"]
    assert shown["url"] == "http://127.0.0.1:1/posts/1900"
    assert (shown["intent"], shown["text"], shown["readings"]) == (intent, HOSTILE, 2)
    assert shown["metrics"] == {"like_count": 5, "reply_count": 2}


def test_a_post_of_a_real_account_is_linked_to_x(
    console: ConsoleProcess, fleet_database: FleetDatabase
) -> None:
    with fleet_database.owner() as owner:
        owner.execute(
            "INSERT INTO fleet.intents (account, action, target, content, text, state, not_before, "
            "proposed_by, by_person, origin, platform_id, created_at, updated_at) VALUES ('default', 'post', "
            "'t', 'c', 'x', 'posted', now(), 'm', true, '{}', '1/../2?', now(), now())"
        )
    until(lambda: console.json("/api/overview")["posts"]["latest"] != [])
    (shown,) = console.json("/api/overview")["posts"]["latest"]
    assert shown["url"] == "https://x.com/i/web/status/1%2F..%2F2%3F"


def test_workers_are_a_list_of_slots(
    console: ConsoleProcess, fleet_database: FleetDatabase, request: pytest.FixtureRequest
) -> None:
    assert console.get("/health/ready").status_code == 503
    paper_host: PaperHost = request.getfixturevalue("paper_host")
    for pid in (76, 77):  # who has just changed something finds it here at once
        paper_host.report(slot_report("poster", pid=pid))
        assert pid in [slot["pid"] for slot in console.json("/api/workers/status")]
    slots = {slot["name"]: slot for slot in console.json("/api/workers/status")}
    worker = slots["poster"]
    assert {"name", "healthy", "enabled", "lastRun", "errorRate", "restartCount"} <= worker.keys()
    assert (worker["slot"], worker["host"], worker["restartCount"], worker["failures"]) == (1, "alpha", 3, 2)
    assert (worker["memoryBytes"], worker["cpuPercent"]) == (50_000_000, 1.5)
    assert worker["since"]
    until(lambda: console.get("/health/ready").json() == {"status": "ready"})
    with fleet_database.owner() as owner:
        owner.execute("UPDATE fleet.hosts SET seen_at = seen_at - interval '16 seconds'")
    until(lambda: console.get("/health/ready").status_code == 503)
    assert "silent for" in console.get("/health/ready").json()["reasons"][0]


def test_intents_are_filtered_by_state_and_time_and_come_in_pages(
    console: ConsoleProcess, fleet: Fleet
) -> None:
    for number in range(7):
        fleet.ledger.propose("sandbox", "post", f"plan:{number}", f"text {number}")
    posted = [post(fleet, "1900"), post(fleet, "1901")]
    rejected = post(fleet, reason="<b>no</b>")
    everything = console.json("/api/intents")
    assert everything["next"] is None
    assert all(item.keys() == ITEM for item in everything["items"])
    moments = [datetime.fromisoformat(item["updated_at"]) for item in everything["items"]]
    assert moments == sorted(moments, reverse=True)

    pages: list[str] = []
    after = ""
    while True:
        page = console.json(f"/api/intents?limit=3{after}")
        pages += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        assert len(page["items"]) == 3
        after = f"&after={page['next']}"
    assert pages == [item["id"] for item in everything["items"]]
    assert len(pages) == 7

    states = console.json("/api/intents?state=posted,rejected")["items"]
    assert [item["id"] for item in states] == [rejected, *reversed(posted)]
    second = states[1]["updated_at"].replace("+00:00", "Z")
    assert [item["id"] for item in console.json(f"/api/intents?from={second}&state=posted")["items"]] == [
        posted[1]
    ]
    assert [item["id"] for item in console.json(f"/api/intents?to={second}&state=posted")["items"]] == [
        posted[0]
    ]


def test_intents_say_which_act_they_are_and_likes_are_no_posts(console: ConsoleProcess, fleet: Fleet) -> None:
    author = {"author_id": "7"}
    like = fleet.ledger.propose("sandbox", "like", "1999", "", origin=author).id
    post(fleet, "1999")
    reply = fleet.ledger.propose("sandbox", "reply", "1998", HOSTILE, origin=author).id
    post(fleet, "2000")
    until(lambda: len(console.json("/api/overview")["intents"]["latest"]) == 2)
    overview = console.json("/api/overview")
    assert [(one["action"], one["target"], one["text"]) for one in overview["intents"]["latest"]] == [
        ("reply", "1998", HOSTILE),
        ("like", "1999", ""),
    ]
    (shown,) = overview["posts"]["latest"]
    assert (shown["intent"], shown["action"], shown["target"]) == (reply, "reply", "1998")
    assert overview["posts"]["number"] == 1
    assert {account["name"]: account["tier"] for account in overview["accounts"]} == {
        "default": "pay_per_use",
        "sandbox": "enterprise",
    }
    for action, wanted in (("like", [like]), ("reply,like", [reply, like]), ("quote", [])):
        assert [item["id"] for item in console.json(f"/api/intents?action={action}")["items"]] == wanted


def test_one_intent_has_its_transitions_and_attempts(console: ConsoleProcess, fleet: Fleet) -> None:
    fleet.ledger.propose("sandbox", "post", "plan:1", HOSTILE)
    intent = post(fleet, reason="<b>no</b>")
    shown = console.json(f"/api/intents/{intent}")
    assert shown.keys() >= ITEM
    assert shown["text"] == HOSTILE
    assert [step["to"] for step in shown["transitions"]] == ["ready", "claimed", "sending", "rejected"]
    assert [(tried["attempt"], tried["outcome"], tried["status"]) for tried in shown["attempts"]] == [
        (1, "rejected", 403)
    ]
    for missing in ("999999", "0", "-1", "abc", "9" * 40, "1%00"):
        assert console.get(f"/api/intents/{missing}").status_code == 404


def test_a_bad_parameter_is_named_with_what_is_allowed(console: ConsoleProcess) -> None:
    for query in ("state=bad", "from=bad", "to=bad", "limit=bad", "after=bad"):
        answer = console.get(f"/api/intents?{query}")
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["field"], error["value"]) == tuple(query.split("="))
        assert error["allowed"] in error["message"]


def test_the_kill_switch_is_thrown_and_lifted_by_the_token_and_audited(
    console: ConsoleProcess, fleet_database: FleetDatabase, fleet: Fleet
) -> None:
    fleet.ledger.propose("sandbox", "post", "plan:1", "one")
    thrown = console.order('{"on": true, "reason": " a drill "}')
    assert thrown.status_code == 200
    assert thrown.json().items() >= {"on": True, "scope": "global", "in_flight": []}.items()
    assert datetime.fromisoformat(thrown.json()["acknowledged_at"])
    assert fleet.ledger.claim("sandbox", "poster/1") is None
    assert console.json("/api/overview")["kill_switch"]["reason"] == "a drill"
    assert console.order('{"on": false, "reason": "over"}').json()["on"] is False
    with fleet_database.owner() as owner:
        told = owner.execute("SELECT actor, login, action, reason FROM fleet.audits ORDER BY id DESC LIMIT 2")
        assert told.fetchall() == [
            ("console", "fleet_console", "kill_switch_off", "over"),
            ("console", "fleet_console", "kill_switch_on", "a drill"),
        ]


def test_without_the_token_the_kill_switch_stays(console: ConsoleProcess) -> None:
    for token in (None, "", "open-sesam", "open-sesamee", "OPEN-SESAME", "\xff"):
        answer = console.order('{"on": true, "reason": "x"}', token)
        assert answer.status_code == 401, token
        assert answer.headers["www-authenticate"] == "Bearer"
    assert console.json("/api/overview")["kill_switch"]["on"] is False


def test_while_there_is_no_token_nobody_has_it(console: ConsoleProcess) -> None:
    (console.state / "console.token").write_text("\n")
    assert console.order('{"on": true, "reason": "x"}', "").status_code == 401
    (console.state / "console.token").unlink()
    assert console.order('{"on": true, "reason": "x"}').status_code == 401


def test_a_bad_order_is_named_and_changes_nothing(console: ConsoleProcess) -> None:
    orders = (
        ("", "body"),
        ("no", "body"),
        ("[]", "body"),
        ('{"on": "true", "reason": "x"}', "on"),
        ('{"on": 1, "reason": "x"}', "on"),
        ('{"reason": "x"}', "on"),
        ('{"on": true}', "reason"),
        ('{"on": true, "reason": " "}', "reason"),
        ('{"on": true, "reason": "a\\u0000b"}', "reason"),
        ('{"on": true, "reason": "' + "x" * 1001 + '"}', "reason"),
        ('{"on": true, "reason": 5}', "reason"),
        ('{"on": true, "on": false, "reason": "x"}', "on"),
        ('{"on": true, "reason": "x", "account": "a"}', "field"),
    )
    for body, field in orders:
        answer = console.order(body)
        assert answer.status_code == 400, body
        error = answer.json()["error"]
        assert error["field"] == field
        assert error.keys() == {"field", "value", "allowed", "message"}
    assert console.json("/api/overview")["kill_switch"]["on"] is False


def test_a_body_too_long_is_refused(console: ConsoleProcess) -> None:
    assert console.order('{"on": true, "reason": "' + "x" * 100_000 + '"}').status_code == 413


def test_metrics_are_what_prometheus_reads(
    lone: ConsoleProcess, fleet: Fleet, fleet_database: FleetDatabase
) -> None:
    fleet.ledger.propose("sandbox", "post", "plan:1", "one")
    post(fleet, "1900")
    until(lambda: 'socialfleet_posts_total{account="sandbox"} 1.0' in lone.get("/metrics").text)
    answer = lone.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    events = {sample.labels["severity"]: sample.value for sample in families["socialfleet_events"].samples}
    assert events["info"] == 2  # planned, posted
    used = {
        sample.labels["endpoint"]: sample.value for sample in families["socialfleet_rate_limit_used"].samples
    }
    assert used["post_tweet"] == 1
    locks = {
        sample.labels["outcome"]: sample.value for sample in families["socialfleet_lock_requests"].samples
    }
    assert locks["granted"] == 1
    with fleet_database.owner() as owner:  # as after a restore from before these events
        owner.execute("TRUNCATE fleet.events RESTART IDENTITY")
    until(lambda: 'socialfleet_events_total{severity="info"} 0.0' in lone.get("/metrics").text)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:8780", 200),
        ("LOCALHOST", 200),
        ("[::1]:8780", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("localhost@evil.example", 400),
        ("127.0.0.1:8780:1", 400),
        ("192.168.0.1", 400),
        ("", 400),
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/overview", "/health/live", "/metrics"])
def test_only_loopback_hosts_are_served(shared: ConsoleProcess, host: str, status: int, path: str) -> None:
    answer = shared.get(path, headers={"Host": host})
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    if status == 400:
        assert answer.json()["error"]["field"] == "Host"


@pytest.mark.parametrize("path", ["/", "/static/console.js", "/api/overview", "/nothing", "/health/live"])
def test_every_answer_tells_the_browser_to_trust_nothing_else(shared: ConsoleProcess, path: str) -> None:
    headers = shared.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


def test_an_address_or_a_method_that_is_not_there_is_said_so(shared: ConsoleProcess) -> None:
    assert shared.get("/static/../app.py").status_code == 404
    assert "nothing" in shared.get("/<script>").json()["error"]["message"]
    assert requests.post(f"{shared.url}/api/intents", timeout=10).status_code == 405
    assert shared.get("/api/kill-switch").status_code == 405
