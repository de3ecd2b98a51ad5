"""The reference pages say what the code says; the example worker of the how-to is a worker."""

import argparse
import ast
import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import annotated_types
import pytest

import workers.fleet
from config import Config
from coordination.jobs import Jobs
from host.cli import COMMANDS
from workers import registry
from workers.base import Worker, WorkerSettings
from workers.intervals import Cron, Interval, further_duties, jobs

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = ROOT / "docs" / "reference"
HOW_TO = ROOT / "docs" / "howto" / "write-a-worker.md"

# What the pages hold


def tables(page: str) -> list[str]:
    """Every table of a reference page, as it stands there."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    return re.findall(r"^(?:\|.*\n)+", text, flags=re.MULTILINE)


def table(heads: list[str], rows: list[list[str]]) -> str:
    head, *rest = (f"| {' | '.join(line)} |\n" for line in [heads, *rows])
    return "".join([head, "|---" * len(heads), "|\n", *rest])


def assert_page_has(page: str, expected: list[str]) -> None:
    """Every expected table stands on the page; a failure prints those to paste."""
    found = tables(page)
    missing = [text for text in expected if text not in found]
    assert not missing, f"docs/reference/{page} lacks what the code says; paste:\n\n" + "\n".join(missing)


# Settings


def sentences(model: type[WorkerSettings]) -> dict[str, str]:
    """What the docstrings of the model and its parents say of each field."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        # Python 3.13 strips a docstring's indentation itself; cleaned, all versions give the same.
        listed = inspect.cleandoc(vars(kind).get("__doc__") or "").partition("Attributes:")[2]
        found |= dict(re.findall(r"^ {4}(\w+): (.+?)$", listed, flags=re.MULTILINE))
    return found


def allowed(metadata: list[Any]) -> str:
    low = [str(item.ge) for item in metadata if isinstance(item, annotated_types.Ge)]
    high = [str(item.le) for item in metadata if isinstance(item, annotated_types.Le)]
    return f"{low[0]} to {high[0]}" if low and high else "-"


def settings_table(kind: type[Worker]) -> str:
    said = sentences(kind.settings_model)
    intervals = {"": kind.every} | {f"{method}_": every for method, every in further_duties(kind).items()}
    own = {"stall_after_s": kind.stall_after_s} | {
        f"{method}interval_s": every.seconds
        for method, every in intervals.items()
        if isinstance(every, Interval)
    }
    rows: list[list[str]] = []
    for name, field in kind.settings_model.model_fields.items():
        default = json.dumps(field.default)
        if field.default is None:
            default += f" ({own[name]:g})"
        meaning = said[name].removesuffix(".").replace("None:", "null:")
        rows.append([f"`{kind.name}_{name}`", default, allowed(field.metadata), meaning])
    return table([f"`{kind.name}`", "default", "allowed", "meaning"], rows)


def test_the_settings_page_has_every_workers_settings_with_defaults_and_bounds() -> None:
    assert_page_has("settings.md", [settings_table(kind) for kind in registry.find().values()])


def test_the_settings_page_has_the_fleets_own_settings_with_the_defaults_of_the_sql() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "coordination" / "sql").glob("*.sql"))
    [(heads, rows)] = [parsed for parsed in map(cells, tables("settings.md")) if parsed[0][0] == "the fleet"]
    assert heads[1:3] == ["default", "allowed"]
    assert [row[0].strip("`") for row in rows] == list(registry.FLEET_SETTINGS)
    for cell, default, bounds, _ in rows:
        key = cell.strip("`")
        low, high = registry.FLEET_SETTINGS[key]
        in_sql = set(re.findall(rf"setting_number\('{key}', ([\d.]+)\)", source))
        assert (in_sql, bounds) == ({default}, f"{low:.12g} to {high:.12g}")


def cells(text: str) -> tuple[list[str], list[list[str]]]:
    """A table's heads and rows."""
    heads, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines())
    return heads, rows


# Configuration


def shown(default: object) -> str:
    return "-" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_the_configuration_page_has_every_variable_with_its_default() -> None:
    documented = {
        row[0].strip("`"): row[1]
        for heads, rows in map(cells, tables("configuration.md"))
        if heads[0] == "variable"
        for row in rows
    }
    defaults = {name.upper(): shown(field.default) for name, field in Config.model_fields.items()}
    assert documented == defaults, "the table's first columns should be:\n" + "\n".join(
        f"| `{name}` | {default} |" for name, default in defaults.items()
    )


def test_the_example_of_the_environment_names_every_variable() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    named = re.findall(r"^# ?([A-Z_]+)=", text, flags=re.MULTILINE)
    assert sorted(named) == sorted(name.upper() for name in Config.model_fields)


# Commands


def leaves(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Each command that does something: its words, its summary, its parser."""
    nested: list[Any] = [item for item in actions(parser) if isinstance(item.choices, dict)]
    if not nested:
        yield name, parser.description or "", parser
    for group in nested:
        summaries = {choice.dest: choice.help for choice in group._choices_actions}  # noqa: SLF001  the same
        for word, child in group.choices.items():
            yield f"{name} {word}", summaries[word], child


def actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return parser._actions  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  argparse has no public way


def command_table(name: str, summary: str, parser: argparse.ArgumentParser) -> str:
    positional = [item for item in actions(parser) if not item.option_strings]
    options = [item for item in actions(parser) if item.option_strings and item.dest != "help"]
    arguments = [argument(item) for item in positional]
    required = [option(item) for item in options if item.required]
    head = " ".join(["socialfleet", name, *arguments, *required])
    rows = [[f"`{argument(item)}`", item.help] for item in positional if item.help]
    rows += [[f"`{option(item)}`", item.help or ""] for item in options]
    return table([f"`{head}`", summary], rows)


def argument(item: argparse.Action) -> str:
    named = str(item.metavar) if item.metavar else choices(item) or item.dest
    return {"+": f"{named}...", "*": f"[{named}...]"}.get(str(item.nargs), named)


def choices(item: argparse.Action) -> str:
    return r"\|".join(map(str, item.choices or ()))


def option(item: argparse.Action) -> str:
    flags = ", ".join(item.option_strings)
    takes_value = item.nargs != 0
    value = str(item.metavar) if item.metavar else choices(item) or item.dest.upper()
    return f"{flags} {value}" if takes_value else flags


def command_tables() -> list[str]:
    found: list[str] = []
    for name, group in COMMANDS.items():
        parser = argparse.ArgumentParser(prog=f"socialfleet {name}", description=group.summary)
        import_module(f"host.cli.{group.module}").declare(parser)
        found += [command_table(*leaf) for leaf in leaves(name, parser)]
    return found


def test_the_commands_page_has_every_command_with_its_options() -> None:
    assert_page_has("commands.md", command_tables())


def test_the_commands_page_has_no_command_that_is_not_there() -> None:
    assert len([text for text in tables("commands.md") if "`socialfleet " in text]) == len(command_tables())


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"`{name}" not in text] == []


def test_the_readme_names_every_target_of_make() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(
        r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert [name for name in targets if f"`make {name}" not in text] == []


# The example worker


def blocks(language: str) -> list[str]:
    text = HOW_TO.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Worker]]:
    """The how-to's first block of Python, as a file among the fleet's."""
    (tmp_path / "almanac.py").write_text(blocks("python")[0], encoding="utf-8")
    monkeypatch.setattr(workers.fleet, "__path__", [*workers.fleet.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    registry.find.cache_clear()
    yield registry.get("almanac")
    registry.find.cache_clear()
    sys.modules.pop("workers.fleet.almanac", None)


def test_the_example_worker_registers_by_being_among_the_fleets_files(example: type[Worker]) -> None:
    assert issubclass(example, Worker)
    assert registry.description(example) == "Propose the posts that belong to a day of the year."
    assert set(further_duties(example)) == {"look"}


def test_settings_that_the_how_to_sets_are_settings_of_the_example(example: type[Worker]) -> None:
    lines = re.findall(r"settings set (\S+) ('[^']+'|\S+)", "".join(blocks("sh")))
    assert {key for key, _ in lines} >= {"almanac_notes", "almanac_interval_s"}
    for key, value in lines:
        registry.check_setting(key, json.loads(value.strip("'")))
    with pytest.raises(ValueError, match="almanac_hour is 24"):
        registry.check_setting(f"{example.name}_hour", 24)


def test_the_test_that_the_how_to_shows_passes(example: type[Worker]) -> None:
    scope: dict[str, Any] = {}
    exec(compile(blocks("python")[-1], str(HOW_TO), "exec"), scope)
    tests = [value for name, value in scope.items() if name.startswith("test_")]
    assert tests
    assert scope["coming_days"] is sys.modules[example.__module__].__dict__["coming_days"]
    for test in tests:
        test()


def test_the_lines_about_times_and_jobs_say_what_they_mean() -> None:
    _, when, enqueue, analyser, _ = blocks("python")
    scope: dict[str, Any] = {}
    exec(compile(when + analyser, str(HOW_TO), "exec"), scope)
    assert isinstance(scope["every"], Cron)
    assert scope["Analyser"].every == jobs("analyse")
    (call,) = [node for node in ast.walk(ast.parse(enqueue)) if isinstance(node, ast.Call)]
    assert {word.arg for word in call.keywords} <= set(inspect.signature(Jobs.enqueue).parameters)
