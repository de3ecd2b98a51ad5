-- What stood in for the first release's functions: other results, other arguments, one standing on another, some that are no more.
CREATE FUNCTION fleet.now() RETURNS timestamptz LANGUAGE sql VOLATILE RETURN clock_timestamp();
CREATE FUNCTION fleet.ancient(intent bigint) RETURNS text LANGUAGE sql VOLATILE RETURN fleet.now()::text;
CREATE FUNCTION fleet.get_intent(intent bigint) RETURNS text LANGUAGE sql VOLATILE RETURN fleet.ancient(intent);
CREATE FUNCTION fleet.get_account(name text) RETURNS SETOF fleet.accounts LANGUAGE sql VOLATILE
    AS 'SELECT * FROM fleet.accounts';
CREATE FUNCTION fleet.is_engaged(tweet_id text, hours double precision) RETURNS integer LANGUAGE sql RETURN 1;
CREATE FUNCTION fleet.ensure_account(name text, platform text, api_url text, sandbox boolean, topics text[])
    RETURNS bigint LANGUAGE sql VOLATILE RETURN 1;
CREATE FUNCTION fleet.kept_apart() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION fleet.accept_cluster(actor text) RETURNS text LANGUAGE sql VOLATILE AS
    'INSERT INTO fleet.installation VALUES (true, ''1'', ''1'', now(), actor, 0) RETURNING actor';
