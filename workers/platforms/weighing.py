"""The length of a text as X counts it, and the links X would find in it.

twitter-text-parser reads its own data file through `pkg_resources`, which setuptools no longer
brings; while it is imported a stand-in with the one function it calls takes that name.
"""

import importlib
import importlib.resources
import sys
from functools import cache
from types import ModuleType
from typing import Any


def _import_parser() -> Any:
    def resource_string(module: str, name: str) -> bytes:
        return importlib.resources.files(module.rpartition(".")[0]).joinpath(name).read_bytes()

    before = sys.modules.get("pkg_resources")
    stand_in = ModuleType("pkg_resources")
    vars(stand_in)["resource_string"] = resource_string
    sys.modules["pkg_resources"] = stand_in
    try:
        return importlib.import_module("twitter_text")
    finally:
        del sys.modules["pkg_resources"]
        if before is not None:
            sys.modules["pkg_resources"] = before


@cache
def _parser() -> Any:
    """Made by the first text that needs it: its patterns take a third of a second, and few workers weigh."""
    return _import_parser()


def weighted_length(text: str) -> int:
    """The length as X counts it: a URL 23, most CJK characters and emoji 2, others 1."""
    return int(_parser().parse_tweet(text).weightedLength)


def urls(text: str) -> list[str]:
    """What X would turn into links, also where no scheme is written."""
    return list(_parser().extract_urls(text))
