-- Who waits for a content, and what is known of it. Columns ending in _at hold fleet time unless the comment says real time.

DO $$ BEGIN NULL; END $$;
