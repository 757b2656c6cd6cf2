-- How many countable entries up to this one expire, and the latest time of theirs (ms since 1970).
ALTER TABLE log_rows ADD COLUMN expiring INTEGER NOT NULL DEFAULT 0;
ALTER TABLE log_rows ADD COLUMN latest INTEGER NOT NULL DEFAULT 0;
ALTER TABLE heads ADD COLUMN expiring INTEGER NOT NULL DEFAULT 0;
ALTER TABLE heads ADD COLUMN latest INTEGER NOT NULL DEFAULT 0;
