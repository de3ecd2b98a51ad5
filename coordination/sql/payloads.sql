-- Payloads: what each type of message must say, and each kind that the fleet itself knows. Checked where a message is written, so that
-- a mistake is told to who made it. A worker's own kinds are checked by the model of its handler.

-- The priority of a message whose sender names none. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.priority_of_type(type text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE type WHEN 'PRIORITY_ESCALATION' THEN 'critical' WHEN 'CONFLICT_RESOLUTION' THEN 'high' WHEN 'SYSTEM_EVENT' THEN 'high'
    WHEN 'STATE_SYNC' THEN 'low' ELSE 'medium' END;

-- The fields of a payload: each name, with ! where it must be there, and what it holds: a word, or a list of the words that are
-- allowed. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.payload_fields(type text, kind text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    fields constant jsonb := '{
        "TASK_DELEGATION": {"kind!": "name"},
        "TASK_DELEGATION/analyse_post": {"account!": "text", "post_id!": "digits", "mention_id!": "digits"},
        "TASK_DELEGATION/post_analysed": {"account!": "text", "post_id!": "text", "mention_id!": "text", "found!": "boolean",
            "reason!": "text"},
        "TASK_DELEGATION/system_issue": {"issue!": "text", "severity": ["info", "warning", "error"]},
        "RESOURCE_REQUEST": {"resource_type!": "name", "resource_id": "text", "priority": ["low", "medium", "high", "critical"]},
        "CONFLICT_RESOLUTION": {"kind!": ["resource", "priority", "schedule", "state", "decision"], "thing!": "text"},
        "CONFLICT_RESOLUTION/resource": {"contenders!": "list"},
        "CONFLICT_RESOLUTION/priority": {"contenders!": "list"},
        "CONFLICT_RESOLUTION/schedule": {"contenders!": "list"},
        "CONFLICT_RESOLUTION/state": {"contenders!": "list"},
        "CONFLICT_RESOLUTION/decision": {"conflict!": "digits", "state!": ["decided", "open"], "reason!": "text"},
        "STATE_SYNC": {"key!": "text", "version!": "integer"},
        "SYSTEM_EVENT": {"kind!": "name"},
        "SYSTEM_EVENT/rate_limit_crossed": {"account!": "text", "endpoint!": "text"},
        "SYSTEM_EVENT/kill_switch_changed": {"on!": "boolean", "reason!": "text"},
        "PRIORITY_ESCALATION": {"kind!": "name", "priority": ["low", "medium", "high", "critical"], "reason": "text"},
        "PRIORITY_ESCALATION/message": {"id!": "digits"},
        "PRIORITY_ESCALATION/job": {"id!": "digits"}
    }';
BEGIN
    RETURN coalesce(fields->payload_fields.type, '{}')
        || coalesce(fields->(payload_fields.type || '/' || payload_fields.kind), '{}');
END $$;

-- Refuses a payload whose fields are not what its type and kind say, by the field's name. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.check_payload(type text, payload jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    field record;
    given jsonb;
    words text;
    is_fine boolean;
BEGIN
    FOR field IN
        SELECT rtrim(f.key, '!') AS name, f.key LIKE '%!' AS needed, f.value AS holds
        FROM jsonb_each(fleet.payload_fields(type, payload->>'kind')) f ORDER BY f.key
    LOOP
        given := payload->field.name;
        CONTINUE WHEN given IS NULL AND NOT field.needed;
        words := CASE WHEN jsonb_typeof(field.holds) = 'array' THEN
            (SELECT string_agg(w, ', ') FROM jsonb_array_elements_text(field.holds) w)
            ELSE field.holds #>> '{}' END;
        is_fine := CASE WHEN jsonb_typeof(field.holds) = 'array' THEN jsonb_typeof(given) = 'string' AND field.holds ? (given #>> '{}')
            ELSE CASE words
                WHEN 'text' THEN jsonb_typeof(given) = 'string' AND given <> '""'
                WHEN 'name' THEN jsonb_typeof(given) = 'string' AND given #>> '{}' ~ '^[a-z][a-z0-9_.-]{0,62}$'
                WHEN 'digits' THEN jsonb_typeof(given) = 'string' AND given #>> '{}' ~ '^[0-9]{1,19}$'
                WHEN 'integer' THEN jsonb_typeof(given) = 'number' AND given::text ~ '^-?[0-9]{1,18}$'
                WHEN 'boolean' THEN jsonb_typeof(given) = 'boolean'
                WHEN 'list' THEN jsonb_typeof(given) = 'array' END END;
        IF is_fine IS NOT TRUE THEN
            PERFORM fleet.refuse('payload.' || field.name, given #>> '{}', CASE words
                WHEN 'text' THEN 'a text that is not empty'
                WHEN 'name' THEN 'a lower-case name of 1 to 63 letters, digits, _, . or -'
                WHEN 'digits' THEN 'a number of 1 to 19 digits, as a text'
                WHEN 'integer' THEN 'a whole number'
                WHEN 'boolean' THEN 'true or false'
                WHEN 'list' THEN 'a list'
                ELSE 'one of ' || words END);
        END IF;
    END LOOP;
END $$;
