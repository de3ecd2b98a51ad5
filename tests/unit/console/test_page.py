"""The page's files: nothing from elsewhere, nothing inline, no text that could become markup."""

import re
from importlib.resources import files

import pytest

STATIC = files("console") / "static"
NAMES = ("index.html", "console.css", "console.js", "icon.svg")


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


def test_the_script_writes_text_only() -> None:
    text = (STATIC / "console.js").read_text("utf-8")
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)


def test_every_place_that_the_script_fills_is_in_the_markup() -> None:
    wanted = set(re.findall(r"\bat\(\"([a-z-]+)\"\)", (STATIC / "console.js").read_text("utf-8")))
    assert wanted
    assert wanted <= set(re.findall(r"\bid=\"([a-z-]+)\"", (STATIC / "index.html").read_text("utf-8")))
