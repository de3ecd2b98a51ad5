-- Who may call what. Nobody may call anything that is not named here; workers touch no table.

DO $$
DECLARE
    -- For each login role: the functions it may call.
    allowed constant jsonb := '{
        "fleet_worker": ["open_incarnation", "close_incarnation", "beat", "is_dead",
            "report_event", "wake", "report_alert", "withdraw_alert", "start_run", "finish_run",
            "get_settings", "flag_enabled",
            "request_lock", "poll_lock", "leave_line", "return_lost_lock", "escalate_conflict", "renew_lock", "release_lock", "wake_incarnation",
            "has_recent_engagement", "get_engagement_stats", "get_engagement_patterns", "get_lock_status", "get_lock_measures",
            "get_state", "set_state", "compare_and_set_state", "delete_state", "list_state", "get_cached", "get_many_cached", "put_cached", "drop_cached", "begin_cached", "give_up_cached", "get_cache_status", "ask_breaker", "record_call", "watch_breakers", "get_breaker_status", "hold_budget", "keep_hold", "settle_hold", "release_hold", "get_budget_status",
            "count_conflicts",
            "configure_rate_limit", "configure_rate_windows", "can_make_request", "record_usage", "release_grant", "return_lost_grant", "lease_requests", "end_lease", "get_remaining_capacity", "schedule_request", "cancel_booking", "get_worker_allocation", "get_rate_measures",
            "get_system_status",
            "reserve_resource", "renew_reservation", "release_resource", "check_availability", "poll_reservation", "leave_queue",
            "tidy_pools", "adjust_capacity", "get_pool_status",
            "reserve_api_quota", "use_api_quota",
            "send_message", "broadcast_message", "claim_messages", "acknowledge_message", "reject_message",
            "route_messages", "expire_messages",
            "enqueue_job", "enqueue_jobs", "claim_jobs", "next_job_in_s", "renew_jobs", "complete_job", "complete_jobs", "turn_jobs", "fail_job", "fail_jobs", "snooze_job", "snooze_jobs", "cancel_job", "cancel_jobs", "replay_job", "replay_jobs", "rescue_jobs", "get_job", "get_job_status",
            "fire_slot", "check_schedules", "get_schedule_status",
            "delegate_task", "renew_message", "count_late_report", "escalate_messages", "escalate", "resolve_conflict", "get_message_status", "get_responsiveness",
            "fail_item", "failed_among", "clear_item",
            "get_account", "confirm_identity", "get_policy", "check_policy", "record_opt_out", "has_opted_out",
            "propose", "tidy_intents", "claim_intent", "unclaim_intent", "begin_send", "settle", "park_orphan",
            "get_intent", "get_queue", "get_kill_switch",
            "claim_readings", "append_reading", "miss_reading",
            "offer_candidates", "take_candidates", "decide_candidate", "give_up_candidates", "get_pool", "get_cursor",
            "note_mentions", "take_interactions", "settle_interaction",
            "gather_health", "take_snapshot", "sweep", "close_silent_incarnations"],
        "fleet_console": ["wake",
            "get_settings", "set_setting", "set_flag", "flag_enabled", "unset_setting", "revert_setting", "revert_flag",
            "get_state", "list_state", "get_cache_status",
            "reset_breaker", "configure_breaker", "get_breaker_status",
            "set_budget", "remove_budget", "decide_hold", "get_budget_status",
            "set_kill_switch", "get_kill_switch",
            "propose_by_person", "decide_intent", "get_intent", "get_queue",
            "request_command", "preview_command", "get_command", "drain_host", "declare_host_gone", "acknowledge_alert",
            "configure_rate_limit", "get_remaining_capacity", "get_system_status", "unblock_endpoint",
            "configure_pool", "get_pool_status",
            "configure_rate_windows", "get_rate_measures",
            "get_engagement_stats", "has_recent_engagement",
            "get_engagement_patterns", "get_lock_status", "get_lock_measures", "set_engagement_interval",
            "get_account", "set_topics", "set_tier", "get_policy", "check_policy",
            "decide_job", "get_job", "get_job_status",
            "pause_schedule", "get_schedule_status",
            "replay_message",
            "set_route", "remove_route", "decide_conflict", "get_message_status", "get_responsiveness"],
        "fleet_reader": ["get_settings", "flag_enabled", "get_kill_switch",
            "get_system_status",
            "get_pool_status",
            "get_rate_measures",
            "get_state", "list_state", "get_cache_status", "get_breaker_status", "get_budget_status",
            "get_engagement_stats",
            "get_engagement_patterns", "get_lock_status", "get_lock_measures",
            "get_job_status", "get_schedule_status",
            "get_message_status", "get_responsiveness",
            "get_intent", "get_policy", "check_policy"],
        "fleet_maintainer": ["ensure_account", "ensure_worker", "open_host", "report_host", "get_share", "close_host",
            "finish_part", "tell_part", "adopt_override", "record_process_ends", "wake_heirs", "is_dead", "raise_alert", "clear_alert",
            "report_host_event", "keep_black_box", "look_into", "seed_setting", "unseed_settings", "register_settings", "get_kill_switch",
            "get_system_status", "wake"]
    }';
    open_to_all constant text[] := ARRAY['now', 'real_now', 'lock_key'];
    reads_tables constant text[] := ARRAY['fleet_console', 'fleet_reader', 'fleet_maintainer'];
    found regprocedure;
    role text;
BEGIN
    FOR found IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'fleet'::regnamespace LOOP
        -- The roles too: what an earlier release granted and this one doesn't must go.
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, %s', found,
            (SELECT string_agg(quote_ident(r), ', ') FROM jsonb_object_keys(allowed) r));
    END LOOP;
    FOR role IN SELECT jsonb_object_keys(allowed) LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA fleet TO %I', role);
        FOR found IN
            SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'fleet'::regnamespace
              AND (allowed->role ? p.proname OR p.proname = ANY(open_to_all))
        LOOP
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', found, role);
        END LOOP;
        IF role = ANY(reads_tables) THEN
            EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA fleet TO %I', role);
        END IF;
    END LOOP;
END $$;
