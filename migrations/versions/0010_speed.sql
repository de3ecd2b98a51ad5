-- What is not sent yet, by when it is due: what a sender claims, and what it tidies before, without the ledger of years.
DROP INDEX fleet.intents_due;
CREATE INDEX intents_due ON fleet.intents (account, not_before, id)
    WHERE state IN ('draft', 'awaiting_approval', 'ready', 'claimed', 'retry_at');

-- Who takes candidates looks first at those that are taken, a batch a worker.
CREATE INDEX candidates_taken ON fleet.candidates (account) WHERE state = 'taken';

-- Room on the page for a hot row's next version, so that no index hears of it.
ALTER TABLE fleet.rate_limits SET (fillfactor = 50);

-- A limit may be as large as what an integer counts with ease.
ALTER TABLE fleet.rate_limits DROP CONSTRAINT rate_limits_requests_check,
    ADD CONSTRAINT rate_limits_requests_check CHECK (requests BETWEEN 1 AND 1000000000);

-- Since when (real time) units that were prepaid before are given out no more.
ALTER TABLE fleet.rate_limits ADD COLUMN voided_at timestamptz NOT NULL DEFAULT '-infinity';

-- Units of an endpoint with much room that are taken already, for those who ask within a second. A crash empties it, and the units
-- are free again: they were counted here alone.
CREATE UNLOGGED TABLE fleet.rate_prepaid (
    account text NOT NULL,
    endpoint text NOT NULL,
    units integer NOT NULL CHECK (units >= 0),
    batch integer NOT NULL CHECK (batch >= 1),
    paid_at timestamptz NOT NULL,
    PRIMARY KEY (account, endpoint)
) WITH (fillfactor = 10);
