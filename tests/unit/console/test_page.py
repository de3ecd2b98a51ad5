"""The page's files: nothing from elsewhere, nothing inline, no text that could become markup."""

import re
from importlib.resources import files

import pytest

from console.app import STATIC as SERVED

STATIC = files("console") / "static"
NAMES = sorted(entry.name for entry in STATIC.iterdir())
SCRIPTS = [name for name in NAMES if name.endswith(".js")]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_fetched_from_elsewhere(name: str) -> None:
    text = (STATIC / name).read_text("utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.findall(r"(?:https?:)?//[a-z0-9.]+\.[a-z]{2,}", text)
    assert "@import" not in text
    assert "url(" not in text


def test_the_markup_holds_no_script_and_no_style() -> None:
    text = (STATIC / "index.html").read_text("utf-8")
    assert all(not body.strip() for body in re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL))
    assert not re.findall(r"<style|\sstyle=|\son[a-z]+=", text)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_writes_text_only(name: str) -> None:
    text = (STATIC / name).read_text("utf-8")
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)


def test_every_file_of_the_page_is_served_and_every_script_is_loaded() -> None:
    assert {name for name, _ in SERVED.values()} == set(NAMES)
    imported = {
        name
        for script in SCRIPTS
        for name in re.findall(r'(?:from|import) "\./([a-z_.]+)"', (STATIC / script).read_text("utf-8"))
    }
    assert imported | {"console.js"} == set(SCRIPTS)


def test_every_place_that_the_script_fills_is_in_the_markup() -> None:
    scripts = "".join((STATIC / name).read_text("utf-8") for name in SCRIPTS)
    wanted = set(re.findall(r"\bat\(\"([a-z-]+)\"\)", scripts))
    places = re.findall(r"\bid=\"([a-z-]+)\"", (STATIC / "index.html").read_text("utf-8"))
    assert {"workers", "hosts", "alerts", "commands", "black-boxes", "order-reason"} <= wanted
    assert wanted <= set(places)
    assert len(places) == len(set(places))
