-- Shared values, a cache, breakers, budgets, versions of settings. Columns ending in _at hold fleet time unless the comment says real time.

DO $$ BEGIN NULL; END $$;
