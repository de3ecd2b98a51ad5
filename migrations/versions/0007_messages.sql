-- Routes of messages, and broadcasts that a newcomer is told. Columns ending in _at hold fleet time unless the comment says real time.

DO $$ BEGIN NULL; END $$;
