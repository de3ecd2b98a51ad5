"""Settings and flags: checked where they are written, kept with their history, told to whom they concern."""

from typing import Any

import pytest

from coordination import Fleet
from coordination.database import Database
from coordination.errors import InvalidValueError
from coordination.flags import flag_history, revert_flag, set_flag
from coordination.settings import (
    FLEET,
    Definition,
    FlagDefinition,
    SettingType,
    register_settings,
    revert_setting,
    seed_setting,
    set_setting,
    setting_history,
    unseed_settings,
    unset_setting,
)
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.tables import Owner, assert_refused, rows, value

WHO = {"actor": "ann", "reason": "test"}


@pytest.fixture(autouse=True)
def defined(fleet_database: FleetDatabase) -> None:
    """A worker whose settings are of every type."""

    def of(type_: SettingType, **more: Any) -> Definition:
        return Definition(key=f"tester_{type_}", owner="tester", type=type_, **more)

    definitions = [
        of("int", lowest=1, highest=10, default_value=5, unit="s"),
        of("number", lowest=0, nullable=True),
        of("text", choices=("fast", "slow")),
        of("bool", default_value=False),
        of("list", highest=2, choices=("en", "fr")),
        of("json"),
    ]
    maintainer = fleet_database.database("maintainer")
    register_settings(maintainer, definitions, [FlagDefinition(name="night_mode", owner="tester")])
    maintainer.close()


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("tester_int", 1),
        ("tester_int", 10),
        ("tester_number", 2.5),
        ("tester_number", None),
        ("tester_text", "slow"),
        ("tester_bool", True),
        ("tester_list", ["fr", "en"]),
        ("tester_list", []),
        ("tester_json", {"a": [1, None]}),
        ("tester_json", None),
    ],
)
def test_what_its_definition_allows_is_set(
    fleet: Fleet, console: Database, key: str, allowed: object
) -> None:
    set_setting(console, key, allowed, **WHO)
    assert fleet.settings.under(key) == {key: allowed}


@pytest.mark.parametrize(
    ("key", "bad", "given", "said"),
    [
        ("tester_int", 0, "0", "a whole number from 1 to 10 s"),
        ("tester_int", 11, "11", "a whole number from 1 to 10 s"),
        ("tester_int", 2.5, "2.5", "a whole number"),
        ("tester_int", "5", '"5"', "a whole number"),
        ("tester_int", True, "true", "a whole number"),
        ("tester_int", None, "null", "a whole number"),
        ("tester_int", [5], "[5]", "a whole number"),
        ("tester_number", -0.1, "-0.1", "a number of at least 0, or null"),
        ("tester_text", "medium", '"medium"', "one of fast, slow"),
        ("tester_text", 1, "1", "one of fast, slow"),
        ("tester_bool", "yes", '"yes"', "true or false"),
        ("tester_bool", 1, "1", "true or false"),
        ("tester_list", ["en", "fr", "en"], '["en", "fr", "en"]', "a list"),
        ("tester_list", ["de"], '["de"]', "among en, fr"),
        ("tester_list", "en", '"en"', "a list"),
    ],
)
def test_what_it_does_not_allow_is_refused_with_key_value_and_what_is(
    console: Database, owner: Owner, key: str, bad: object, given: str, said: str
) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        set_setting(console, key, bad, **WHO)
    assert_refused(refusal, key, given)
    assert said in refusal.value.allowed
    assert value(owner, "SELECT count(*) FROM fleet.settings") == 0
    assert value(owner, "SELECT count(*) FROM fleet.configuration_history") == 0
    assert value(owner, "SELECT count(*) FROM fleet.audits") == 0


def test_an_unknown_key_is_refused_with_those_like_it(console: Database) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        set_setting(console, "poster_intervall_s", 5, **WHO)
    assert_refused(refusal, "key", "poster_intervall_s")
    assert "poster_interval_s" in refusal.value.allowed
    with pytest.raises(InvalidValueError) as refusal:
        set_flag(console, "postr_enabled", enabled=False, **WHO)
    assert_refused(refusal, "name", "postr_enabled")
    assert "poster_enabled" in refusal.value.allowed
    with pytest.raises(InvalidValueError, match="settings list --all"):
        set_setting(console, "qqq", 5, **WHO)


def test_every_change_is_kept_with_its_version_author_and_reason(console: Database) -> None:
    first = set_setting(console, "tester_int", 2, actor="ann", reason="first")
    second = set_setting(console, "tester_int", 3, actor="bob", reason="second")
    assert unset_setting(console, "tester_int", actor="eve", reason="third")
    assert not unset_setting(console, "tester_int", actor="eve", reason="fourth")
    changes = setting_history(console, "tester_int")
    assert [(one["value"], one["changed_by"], one["reason"]) for one in changes] == [
        (None, "eve", "third"),
        (3, "bob", "second"),
        (2, "ann", "first"),
    ]
    assert [one["version"] for one in changes[1:]] == [second, first]


def test_it_is_set_back_to_a_version_as_a_new_one(fleet: Fleet, console: Database) -> None:
    first = set_setting(console, "tester_int", 2, **WHO)
    set_setting(console, "tester_int", 3, **WHO)
    unset_setting(console, "tester_int", **WHO)
    unset = setting_history(console, "tester_int")[0]["version"]
    assert revert_setting(console, "tester_int", first, **WHO)["value"] == 2
    assert fleet.settings.under("tester_int") == {"tester_int": 2}
    assert revert_setting(console, "tester_int", unset, **WHO)["is_default"]
    assert fleet.settings.under("tester_int") == {}
    assert len(setting_history(console, "tester_int")) == 5


def test_a_version_that_it_never_had_is_refused_with_those_it_had(console: Database) -> None:
    first = set_setting(console, "tester_int", 2, **WHO)
    other = set_setting(console, "tester_bool", True, **WHO)
    with pytest.raises(InvalidValueError) as refusal:
        revert_setting(console, "tester_int", other, **WHO)
    assert_refused(refusal, "version", str(other))
    assert str(first) in refusal.value.allowed


def test_a_value_that_is_not_allowed_any_more_is_not_gone_back_to(
    fleet_database: FleetDatabase, console: Database
) -> None:
    first = set_setting(console, "tester_int", 9, **WHO)
    set_setting(console, "tester_int", 2, **WHO)
    maintainer = fleet_database.database("maintainer")
    narrower = Definition(key="tester_int", owner="tester", type="int", lowest=1, highest=5)
    assert register_settings(maintainer, [narrower]) == 1
    assert register_settings(maintainer, [narrower]) == 0
    maintainer.close()
    with pytest.raises(InvalidValueError) as refusal:
        revert_setting(console, "tester_int", first, **WHO)
    assert_refused(refusal, "tester_int", "9")


def test_flags_have_a_history_too(fleet: Fleet, console: Database) -> None:
    set_flag(console, "night_mode", enabled=True, **WHO)
    set_flag(console, "night_mode", enabled=False, **WHO)
    changes = flag_history(console, "night_mode")
    assert [one["value"] for one in changes] == [False, True]
    assert revert_flag(console, "night_mode", changes[1]["version"], **WHO)
    assert fleet.flags.enabled("night_mode")


def test_what_a_program_seeded_and_takes_back_is_in_the_history(
    fleet_database: FleetDatabase, fleet: Fleet, console: Database
) -> None:
    maintainer = fleet_database.database("maintainer")
    seed_setting(maintainer, "tester_int", 2, actor="sandbox", reason="quick")
    seed_setting(maintainer, "tester_bool", True, actor="sandbox", reason="quick")
    set_setting(console, "tester_bool", False, **WHO)
    before = version(fleet)
    assert unseed_settings(maintainer, actor="sandbox", reason="over") == 1
    maintainer.close()
    assert [one["value"] for one in setting_history(console, "tester_int")] == [None, 2]
    assert version(fleet) > before  # also what is taken away is noticed


def version(fleet: Fleet) -> int:
    return fleet.heartbeats.beat(
        state="READY",
        reason=None,
        step=None,
        progress=1,
        healthy=True,
        health={},
        memory_bytes=1,
        known_version=None,
    ).version


def test_the_worker_that_it_concerns_is_called_when_it_is_committed(
    fleet_database: FleetDatabase, console: Database
) -> None:
    listener = fleet_database.database("worker")
    listener.listen("fleet_wake")
    set_setting(console, "tester_int", 2, **WHO)
    set_flag(console, "night_mode", enabled=False, **WHO)
    set_setting(console, "engagement_window_hours", 5, **WHO)  # the fleet's own: read where it counts
    unset_setting(console, "tester_int", **WHO)
    heard: list[str] = []
    while calls := [*listener.notifications(2)]:  # until there are no more
        heard += calls
    listener.close()
    assert heard == ["tester/settings"] * 3


def test_the_fleets_own_settings_are_known(owner: Owner) -> None:
    own = rows(owner, "SELECT key FROM fleet.setting_definitions WHERE owner = %s ORDER BY key", FLEET)
    assert ("engagement_window_hours",) in own
    assert value(owner, "SELECT count(*) FROM fleet.flag_definitions WHERE name = 'poster_enabled'") == 1
