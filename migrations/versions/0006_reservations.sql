-- Shared things with a capacity. Columns ending in _at hold fleet time unless the comment says real time.

DO $$ BEGIN NULL; END $$;
