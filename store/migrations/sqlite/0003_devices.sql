-- Devices that opened a session: when they were last seen (s since 1970), and where each log began for them. From here on
-- `cursors` has under the empty device what any device of the user has.
CREATE TABLE devices (
    user TEXT NOT NULL, device TEXT NOT NULL, seen INTEGER NOT NULL, starts BLOB NOT NULL, PRIMARY KEY (user, device)
) STRICT, WITHOUT ROWID;
INSERT INTO cursors (user, log, device, delivered, read)
SELECT user, log, '', max(delivered), max(read) FROM cursors GROUP BY user, log;
