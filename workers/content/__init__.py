"""Posts and what they mean to the account: pure judgements, no platform asked, no row touched."""
