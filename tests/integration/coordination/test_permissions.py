"""Who may do what: workers call functions and touch no table; nobody may call what is not listed."""

import re

import psycopg
import pytest

from coordination import database as door
from coordination.errors import DatabaseError, PermissionRefusedError
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.tables import Owner, rows, value

EVERYBODY = {"now", "real_now", "lock_key"}
# Who may call what, written a second time: widening it takes a change here too.
NAMED = {
    "fleet_worker": """
        open_incarnation close_incarnation beat is_dead report_event wake report_alert withdraw_alert
        start_run finish_run get_settings flag_enabled request_lock poll_lock leave_line return_lost_lock
        escalate_conflict renew_lock release_lock wake_incarnation has_recent_engagement
        get_engagement_stats get_engagement_patterns get_lock_status get_lock_measures get_state
        set_state compare_and_set_state delete_state list_state get_cached get_many_cached put_cached
        drop_cached begin_cached give_up_cached get_cache_status ask_breaker record_call watch_breakers
        get_breaker_status hold_budget keep_hold settle_hold release_hold get_budget_status
        count_conflicts configure_rate_limit configure_rate_windows can_make_request record_usage
        release_grant return_lost_grant lease_requests end_lease get_remaining_capacity
        schedule_request cancel_booking get_worker_allocation get_rate_measures get_system_status
        reserve_resource renew_reservation
        release_resource
        check_availability poll_reservation leave_queue tidy_pools adjust_capacity get_pool_status
        reserve_api_quota use_api_quota send_message broadcast_message claim_messages
        acknowledge_message reject_message route_messages expire_messages enqueue_job enqueue_jobs
        claim_jobs next_job_in_s renew_jobs complete_job complete_jobs turn_jobs fail_job fail_jobs snooze_job
        snooze_jobs cancel_job cancel_jobs replay_job replay_jobs rescue_jobs get_job get_job_status
        fire_slot check_schedules get_schedule_status delegate_task renew_message count_late_report
        escalate_messages escalate resolve_conflict get_message_status get_responsiveness
        fail_item failed_among clear_item
        get_account confirm_identity get_policy check_policy record_opt_out has_opted_out propose
        tidy_intents claim_intent unclaim_intent begin_send settle park_orphan get_intent get_queue
        get_kill_switch claim_readings append_reading miss_reading offer_candidates take_candidates
        decide_candidate give_up_candidates get_pool get_cursor note_mentions take_interactions
        settle_interaction gather_health take_snapshot sweep close_silent_incarnations
        """,
    "fleet_console": """
        wake get_settings set_setting set_flag flag_enabled unset_setting revert_setting revert_flag
        get_state list_state get_cache_status reset_breaker configure_breaker get_breaker_status
        set_budget remove_budget decide_hold get_budget_status set_kill_switch get_kill_switch
        propose_by_person decide_intent get_intent get_queue request_command preview_command get_command
        drain_host declare_host_gone acknowledge_alert configure_rate_limit get_remaining_capacity
        get_system_status unblock_endpoint configure_pool get_pool_status configure_rate_windows
        get_rate_measures get_engagement_stats has_recent_engagement get_engagement_patterns
        get_lock_status get_lock_measures set_engagement_interval get_account set_topics set_tier
        get_policy check_policy decide_job get_job get_job_status pause_schedule get_schedule_status
        replay_message set_route remove_route decide_conflict get_message_status get_responsiveness
        """,
    "fleet_reader": """
        get_settings flag_enabled get_kill_switch get_system_status get_pool_status get_rate_measures
        get_state list_state get_cache_status get_breaker_status get_budget_status get_engagement_stats
        get_engagement_patterns get_lock_status get_lock_measures get_job_status get_schedule_status
        get_message_status get_responsiveness get_intent get_policy check_policy
        """,
    "fleet_maintainer": """
        ensure_account ensure_worker open_host report_host get_share close_host finish_part tell_part
        adopt_override record_process_ends wake_heirs is_dead raise_alert clear_alert report_host_event
        keep_black_box look_into seed_setting unseed_settings register_settings get_kill_switch
        get_system_status wake
        """,
}
CALLABLE = {role: set(names.split()) for role, names in NAMED.items()}
ROLES = tuple(CALLABLE)


def test_a_worker_touches_no_table_and_the_others_only_read(owner: Owner) -> None:
    found = rows(
        owner,
        "SELECT oid::regclass::text FROM pg_class "
        "WHERE relkind = ANY('{r,p,v,m}') AND relnamespace = 'fleet'::regnamespace",
    )
    tables = [name for (name,) in found]
    assert len(tables) > 20
    for role in ROLES:
        for table in tables:
            granted = {
                right
                for right in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
                if value(owner, "SELECT has_table_privilege(%s, %s, %s)", role, table, right)
            }
            allowed = set[str]() if role == "fleet_worker" or "schema_revision" in table else {"SELECT"}
            assert granted <= {"SELECT"}, (role, table)
            assert granted >= allowed, (role, table)
            if role == "fleet_worker":
                assert not granted, table
                assert not value(owner, "SELECT has_any_column_privilege(%s, %s, 'SELECT')", role, table)
        for sequence in ("fleet.fencing_token", "fleet.configuration_version"):
            assert not value(owner, "SELECT has_sequence_privilege(%s, %s, 'USAGE, UPDATE')", role, sequence)
        assert not value(owner, "SELECT has_schema_privilege(%s, 'fleet', 'CREATE')", role)


def test_each_role_calls_its_own_functions_and_no_other(owner: Owner) -> None:
    for role, allowed in CALLABLE.items():
        found = rows(
            owner,
            "SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'fleet'::regnamespace "
            "AND has_function_privilege(%s, p.oid, 'EXECUTE')",
            role,
        )
        assert {name for (name,) in found} == allowed | EVERYBODY, role


def test_a_refused_call_says_that_another_role_is_needed(fleet_database: FleetDatabase) -> None:
    worker = fleet_database.database("worker")
    for attempt in (
        lambda: worker.call("set_kill_switch", is_on=True, actor="me", reason="x"),
        lambda: worker.rows("list_events_after", last_id=0, missing=[]),
    ):
        with pytest.raises(PermissionRefusedError, match="role"):
            attempt()
    worker.close()
    console = fleet_database.database("console")
    with pytest.raises(PermissionRefusedError):
        console.select("DELETE FROM fleet.intents", {})
    console.close()


def test_no_role_is_more_than_a_login(owner: Owner) -> None:
    assert (
        rows(
            owner,
            "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s) "
            "AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)",
            list(ROLES),
        )
        == []
    )
    assert (
        rows(owner, "SELECT 1 FROM pg_auth_members WHERE member::regrole::text = ANY(%s)", list(ROLES)) == []
    )


def test_every_function_is_the_owners_and_those_that_define_rights_fix_their_search_path(
    owner: Owner,
) -> None:
    assert (
        rows(
            owner,
            "SELECT proname FROM pg_proc WHERE pronamespace = 'fleet'::regnamespace "
            "AND proowner <> 'fleet_owner'::regrole",
        )
        == []
    )
    assert (
        rows(
            owner,
            "SELECT proname FROM pg_proc WHERE pronamespace = 'fleet'::regnamespace AND prosecdef "
            "AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY(proconfig), false)",
        )
        == []
    )
    # What isn't callable by a login needs no rights of its own, and has none.
    assert {
        name
        for (name,) in rows(
            owner, "SELECT proname FROM pg_proc WHERE pronamespace = 'fleet'::regnamespace AND prosecdef"
        )
    } == set().union(*CALLABLE.values()) | {"now", "cluster_identity"}


def test_no_function_that_reads_a_table_takes_its_snapshot_from_the_caller(owner: Owner) -> None:
    assert (
        rows(
            owner,
            "SELECT proname FROM pg_proc WHERE pronamespace = 'fleet'::regnamespace AND provolatile = 's'",
        )
        == []
    )
    pure = {name for (name,) in rows(
        owner, "SELECT proname FROM pg_proc WHERE pronamespace = 'fleet'::regnamespace AND provolatile = 'i'"
    )}  # fmt: skip
    assert pure <= {
        "conforming", "tell_full", "line_key", "day_room", "pace", "max_min_shares", "rate_alert_key",
        "lock_key", "share_span", "is_scarce", "may_become", "header_number", "id_number", "shorten",
        "endpoint_of", "name_act", "quote_text", "admits", "why_not", "is_engaging", "poll_within",
        "job_order", "backoff_s", "waited_s", "ran_s", "trace_of", "tell_line", "slots_of", "slot_after",
        "parse_cron_field", "first_instant", "cron_slots", "next_cron_slot", "allow_call",
        "breaker_state", "breaker_key", "budget_start", "budget_end", "budget_counts", "budget_key",
        "budget_subject", "quota_account", "refuse_hold", "show_state", "broadcast_key", "priority_of_type",
        "configured_for", "header_room", "fell_silent", "few_left", "kept_for_others", "most_at_once",
        "counts_requests", "used_of", "platform_window", "most_prepaid", "units_to_prepay", "prepaid_for",
    }  # fmt: skip


# What waits for a lock and then decides: it must see what was committed while it waited.
DECIDING = """
    request_lock poll_lock leave_line return_lost_lock escalate_conflict renew_lock release_lock
    can_make_request record_usage fire_slot enqueue_job claim_jobs complete_job fail_job snooze_job
    propose tidy_intents claim_intent unclaim_intent begin_send settle park_orphan claim_readings
    append_reading release_grant record_opt_out confirm_identity offer_candidates take_candidates
    decide_candidate give_up_candidates reserve_resource renew_reservation release_resource poll_reservation
    leave_queue tidy_pools adjust_capacity enqueue_jobs complete_jobs turn_jobs fail_jobs snooze_jobs
    renew_jobs
    cancel_jobs
    replay_jobs rescue_jobs check_schedules set_state compare_and_set_state delete_state put_cached
    begin_cached ask_breaker record_call hold_budget keep_hold settle_hold release_hold
    reserve_api_quota use_api_quota schedule_request cancel_booking configure_rate_windows
    """
WAITING = DECIDING.split()
PERSONS = {
    "request_command", "drain_host", "declare_host_gone", "acknowledge_alert", "unblock_endpoint",
    "decide_job", "pause_schedule",
}  # fmt: skip
MANAGERS = {
    "open_host", "report_host", "get_share", "finish_part", "adopt_override", "record_process_ends",
    "raise_alert",
}  # fmt: skip


def _call(fleet_id: object, owner: Owner, name: str) -> str:
    types = value(
        owner,
        "SELECT array_agg(format_type(t, NULL) ORDER BY n) "
        "FROM pg_proc p, unnest(p.proargtypes) WITH ORDINALITY a (t, n) "
        "WHERE p.proname = %s AND p.pronamespace = 'fleet'::regnamespace",
        name,
    )
    arguments = ", ".join(f"'{fleet_id}'::uuid" if kind == "uuid" else f"NULL::{kind}" for kind in types)
    return f"SELECT fleet.{name}({arguments})"


def test_a_caller_with_an_older_snapshot_is_refused(fleet_database: FleetDatabase, owner: Owner) -> None:
    with fleet_database.connect() as fleet:
        for role, names in (
            ("worker", WAITING),
            (
                "console",
                {
                    "configure_pool",
                    "decide_intent",
                    "set_kill_switch",
                    "set_tier",
                    "set_engagement_interval",
                    *PERSONS,
                },
            ),
            ("maintainer", MANAGERS),
        ):
            for level in (
                psycopg.IsolationLevel.REPEATABLE_READ,
                psycopg.IsolationLevel.SERIALIZABLE,
            ):
                for name in names:
                    with psycopg.connect(fleet_database.dsn(role)) as connection:
                        connection.isolation_level = level
                        with pytest.raises(psycopg.Error) as refusal:
                            connection.execute(_call(fleet.incarnation.id, owner, name).encode())
                        assert refusal.value.sqlstate == "FL006", name
                        connection.rollback()


def test_what_must_survive_a_crash_is_flushed_whatever_the_servers_default(
    fleet_database: FleetDatabase,
) -> None:
    with fleet_database.connect() as fleet:
        life = fleet.incarnation.id
        for call in (
            f"fleet.request_lock('{life}', 'c', 'w', 'quote')",
            f"fleet.can_make_request('{life}', 'post_tweet', 'w', 'low', 'sandbox')",
            f"fleet.reserve_resource('{life}', 'content', 'c', 'w')",
            f"fleet.enqueue_job('{life}', 'a')",
            f"fleet.claim_jobs('{life}', 'a')",
            f"fleet.turn_jobs('{life}', '{{}}', '{{}}', 'a')",  # though it finds nothing to claim
            f"fleet.propose('{life}', 'sandbox', 'post', 't', 'x')",
            f"fleet.claim_intent('{life}', 'sandbox', 'w', 60)",
        ):
            with psycopg.connect(
                fleet_database.dsn("worker"), options="-c synchronous_commit=off"
            ) as connection:
                connection.execute(f"SELECT {call}".encode())
                row = connection.execute("SHOW synchronous_commit").fetchone()
                assert row == ("on",), call


def test_every_named_query_fits_the_schema(fleet_database: FleetDatabase) -> None:
    assert len(door.queries()) > 10
    with psycopg.connect(fleet_database.dsn("reader")) as connection:
        for name, query in door.queries().items():
            numbered, parameters = query, dict.fromkeys(re.findall(r"%\((\w+)\)s", query))
            for number, parameter in enumerate(parameters, 1):
                numbered = numbered.replace(f"%({parameter})s", f"${number}")
            connection.execute(f"PREPARE {name} AS {numbered}".encode())


def test_an_unknown_function_is_told_as_a_schema_that_does_not_fit(fleet_database: FleetDatabase) -> None:
    database = fleet_database.database("worker")
    with pytest.raises(DatabaseError, match="socialfleet migrate"):
        database.call("levitate")
    database.close()
