-- Several windows a limit, who wants of it, and what is booked. Columns ending in _at hold fleet time unless the comment says real time.

DO $$ BEGIN NULL; END $$;
