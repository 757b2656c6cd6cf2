-- Why no device is sent a row, and the rate clock of its log after it (µs since 1970).
ALTER TABLE log_rows ADD COLUMN skip TEXT NOT NULL DEFAULT '';
ALTER TABLE log_rows ADD COLUMN tat INTEGER NOT NULL DEFAULT 0;
