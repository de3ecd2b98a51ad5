"""Placement: on which hosts a worker's slots may run, as a person writes and reads it."""

import argparse
from collections.abc import Mapping
from typing import Any

from config import LABEL
from coordination.hosts import list_hosts
from host.cli.parser import quoted, shortened
from host.cli.person import Person
from host.cli.selector import require_host

ANY = "any"


def read_placement(text: str) -> dict[str, object]:
    """Read where a worker may run, as the fleet keeps it."""
    if text == ANY:
        return {}
    parts = text.split(",")
    pairs = [part.partition("=") for part in parts]
    if not all(value and LABEL.fullmatch(part) for part, (_, _, value) in zip(parts, pairs, strict=True)):
        raise argparse.ArgumentTypeError(
            f"is {shortened(text)!r}: allowed are any, host=H, or label=value,label=value"
        )
    named = {name: value for name, _, value in pairs}
    if "host" not in named:
        return {"labels": named}
    if len(pairs) > 1:
        raise argparse.ArgumentTypeError(f"is {quoted(text)}: a host and labels don't go together")
    return {"host": named["host"]}


def in_words(placement: Mapping[str, Any]) -> str:
    """Say it as `read_placement` reads it."""
    named = {"host": placement["host"]} if "host" in placement else placement.get("labels", {})
    return ",".join(f"{name}={value}" for name, value in named.items()) or ANY


def require_place(placement: Mapping[str, Any], worker: str, person: Person) -> None:
    """Refuse a host that the fleet doesn't know; warn where no host has the labels."""
    if "host" in placement:
        require_host(placement["host"], person)
    labels = placement.get("labels", {})
    if labels and not any(labels.items() <= host.labels.items() for host in list_hosts(person.database)):
        person.warn(
            f"no host has {in_words(placement)}: {worker} runs nowhere until one does "
            "(see socialfleet hosts list)"
        )
