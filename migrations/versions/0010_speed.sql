-- Room on the page for a hot row's next version, so that no index hears of it.
ALTER TABLE fleet.rate_limits SET (fillfactor = 50);
