-- The kill switch. Its setter takes the key exclusively, begin_send takes it shared and then reads: when the setter has its
-- answer, every send that was let through before is in the list, and none is let through after.

-- Waits for begin_sends under way (milliseconds). The acknowledgement lists the sends in flight. Flushed, audited.
CREATE OR REPLACE FUNCTION fleet.set_kill_switch(is_on boolean, actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    switch fleet.kill_switch;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    IF set_kill_switch.is_on IS NULL THEN
        PERFORM fleet.refuse('kill switch', NULL, 'on or off');
    END IF;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('kill', 'global'));
    PERFORM fleet.write_audit(actor, CASE WHEN is_on THEN 'kill_switch_on' ELSE 'kill_switch_off' END, 'global',
        set_kill_switch.reason);
    INSERT INTO fleet.kill_switch (scope, is_on, reason, changed_by, changed_at)
    VALUES ('global', set_kill_switch.is_on, set_kill_switch.reason, actor, clock_timestamp())
    ON CONFLICT ON CONSTRAINT kill_switch_pkey DO UPDATE SET is_on = excluded.is_on, reason = excluded.reason,
        changed_by = excluded.changed_by, changed_at = excluded.changed_at
    RETURNING * INTO switch;
    IF NOT switch.is_on THEN
        PERFORM fleet.accept_cluster(actor);
    END IF;
    PERFORM fleet.emit('warning', 'kill_switch', actor,
        CASE WHEN is_on THEN 'the kill switch is on: ' ELSE 'the kill switch is off: ' END || set_kill_switch.reason);
    RETURN jsonb_build_object('on', switch.is_on, 'scope', switch.scope, 'reason', switch.reason, 'changed_by', actor,
        'acknowledged_at', clock_timestamp(),
        'in_flight', coalesce((SELECT jsonb_agg(jsonb_build_object('intent', i.id::text, 'attempt', i.attempt) ORDER BY i.id)
            FROM fleet.intents i WHERE i.state = 'sending'), '[]'));
END $$;

-- Locks nothing: a hint for workers and a fact for pages. Only begin_send decides.
CREATE OR REPLACE FUNCTION fleet.get_kill_switch() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce(
        (SELECT jsonb_build_object('on', k.is_on, 'scope', k.scope, 'reason', k.reason, 'changed_by', k.changed_by,
            'changed_at', k.changed_at) FROM fleet.kill_switch k WHERE k.scope = 'global'),
        jsonb_build_object('on', false, 'scope', 'global', 'reason', NULL, 'changed_by', NULL, 'changed_at', NULL));
END $$;

-- Which cluster and history this is. Another one after a failover or a restore. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.cluster_identity() RETURNS text[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN ARRAY[(SELECT c.system_identifier::text FROM pg_control_system() c),
        left(pg_walfile_name(pg_current_wal_lsn()), 8)];
END $$;

-- The database may have forgotten acts that happened: nothing is sent until a person has looked and lifts the switch. Inside
-- begin_send's transaction, under the shared kill lock; not granted to any role.
CREATE OR REPLACE FUNCTION fleet.distrust_cluster(reason text, fence_seen bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE fleet.installation n SET fence_seen = greatest(n.fence_seen, distrust_cluster.fence_seen);
    INSERT INTO fleet.kill_switch (scope, is_on, reason, changed_by, changed_at)
    VALUES ('global', true, distrust_cluster.reason, 'begin_send', clock_timestamp())
    ON CONFLICT ON CONSTRAINT kill_switch_pkey DO UPDATE SET is_on = true, reason = excluded.reason,
        changed_by = excluded.changed_by, changed_at = excluded.changed_at;
    PERFORM fleet.emit('error', 'kill_switch', 'begin_send', 'the kill switch is on: ' || distrust_cluster.reason
        || '. Compare the platform with the ledger, then: socialfleet kill-switch off --reason "..."');
END $$;

-- A person trusts the cluster as it is now; not granted to any role: lifting the kill switch calls it. Fencing tokens go on
-- above every one that was seen.
CREATE OR REPLACE FUNCTION fleet.accept_cluster(actor text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    identity text[] := fleet.cluster_identity();
    seen bigint;
BEGIN
    INSERT INTO fleet.installation (system_identifier, timeline, accepted_at, accepted_by)
    VALUES (identity[1], identity[2], fleet.now(), actor)
    ON CONFLICT ON CONSTRAINT installation_pkey DO UPDATE SET system_identifier = excluded.system_identifier,
        timeline = excluded.timeline, accepted_at = excluded.accepted_at, accepted_by = excluded.accepted_by
    RETURNING fence_seen INTO seen;
    PERFORM setval('fleet.fencing_token', seen + 1) FROM fleet.fencing_token s WHERE s.last_value <= seen;
END $$;
