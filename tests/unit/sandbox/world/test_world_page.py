"""docs/reference/world.md says what the world is."""

import contextlib
import io
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from sandbox.world import law as laws
from sandbox.world import phrases, policy
from sandbox.world.life import DECK
from sandbox.world.policy import Policy
from sandbox.x.posts import User
from sandbox.x.world.population import DEFAULTS, FIRST_FOLLOWERS, LIMITS, Inhabited, choose

PAGE = (Path(__file__).parents[4] / "docs/reference/world.md").read_text(encoding="utf-8")
WORLD = Inhabited(options=choose(), account=User(id=1, username="fleet", name="Fleet", created_ms=0))


def day_ms(date: str) -> int:
    return int(datetime.fromisoformat(f"{date}T00:00:00+00:00").timestamp() * 1000)


def best(date: str) -> Policy:
    return policy.best(WORLD.law, WORLD.population, day_ms=day_ms(date), followers=WORLD.first_followers)


def worth(plan: Policy) -> float:
    found = policy.of(
        WORLD.law, WORLD.population, plan, day_ms=day_ms("2026-01-15"), followers=WORLD.first_followers
    )
    return found.engagement


def row(name: str) -> str:
    part = PAGE if name.startswith("`") else PAGE.partition("## The best policy")[2]
    found = re.search(rf"^\| {re.escape(name)} \|(.*)$", part, re.MULTILINE)
    assert found
    return found[1]


def test_the_best_policy_of_the_default_world_stands_on_the_page() -> None:
    winter, summer = best("2026-01-15"), best("2026-07-15")
    assert row("topic").startswith(f" {winter.topic} |")
    assert row("hour (UTC)").startswith(f" {winter.hour} in winter, {summer.hour} in summer |")
    assert row("length").startswith(f" {winter.length} characters |")
    assert row("format").startswith(f" {winter.format} |")
    assert row("link").startswith(" none |")
    assert not winter.link


def test_what_other_choices_are_worth_stands_there_too() -> None:
    plan = best("2026-01-15")
    most = worth(plan)
    names = {topic.name for topic in phrases.topics()}
    shown = [
        *[(replace(plan, topic=name), share) for name, share in pairs("topic", r"([a-z ]+?) (0\.\d\d)")],
        *[(replace(plan, hour=int(hour)), share) for hour, share in pairs("hour (UTC)", r"(\d+): (0\.\d\d)")],
        *[(replace(plan, length=int(size)), share) for size, share in pairs("length", r"(\d+): (0\.\d\d)")],
        (replace(plan, format="list"), pairs("format", r"(list) (0\.\d\d)")[0][1]),
        (replace(plan, format="plain"), pairs("format", r"(plain) (0\.\d\d)")[0][1]),
        (replace(plan, link=True), pairs("link", r"(with one) (0\.\d\d)")[0][1]),
    ]
    assert len(shown) == 5 + 3 + 5 + 3
    assert {one.topic for one, _ in shown} <= names
    for one, share in shown:
        assert abs(worth(one) / most - float(share)) < 0.011, one


def pairs(name: str, pattern: str) -> list[tuple[str, str]]:
    found = re.findall(pattern, row(name).split("|")[1])
    return [(first.strip(), share) for first, share in found]


def test_the_options_stand_there_with_their_defaults_and_limits() -> None:
    for name, (least, most) in LIMITS.items():
        assert row(f"`--{name}`").endswith(f"| {DEFAULTS[name]} | {least} to {most} |")
    assert DECK.count("question") + DECK.count("remark") == 5
    assert FIRST_FOLLOWERS == 0.25
    worths = re.search(r"`\[worth\]`: (.*?)\.", PAGE)
    assert worths
    for act, value in re.findall(r"(\w+) (\d)", worths[1]):
        assert WORLD.law.worth.of(act) == int(value)
    assert all(topic.name in PAGE.replace("\n", " ") for topic in phrases.topics())


def test_the_pages_example_runs_and_finds_the_best() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(example, "world.md", "exec"), {})
    assert out.getvalue().startswith(repr(best("2026-01-15")))


@pytest.mark.parametrize(
    "section", ["seeing", "fit", "attention", "length", "novelty", "tags", "noise", "base"]
)
def test_every_part_of_the_law_is_explained(section: str) -> None:
    assert f"[{section}]" in laws.source().decode()
    assert section in PAGE
