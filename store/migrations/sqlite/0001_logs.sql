-- The identity of this store: cursors that clients bring from another one mean nothing here.
CREATE TABLE identity (id INTEGER PRIMARY KEY CHECK (id = 1), epoch TEXT NOT NULL) STRICT;
INSERT INTO identity (id, epoch) VALUES (1, lower(hex(randomblob(16))));

-- Who writes a partition; the epoch only grows.
CREATE TABLE owners (
    stream TEXT NOT NULL, part INTEGER NOT NULL, epoch INTEGER NOT NULL, owner TEXT NOT NULL,
    PRIMARY KEY (stream, part)
) STRICT, WITHOUT ROWID;

-- The end of each log, by the owner of the highest epoch that wrote to it.
CREATE TABLE heads (
    log TEXT PRIMARY KEY, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, src INTEGER NOT NULL, n INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The entries. Rows above the head of their log were left by an owner that had lost its partition; nobody sees them.
CREATE TABLE log_rows (
    log TEXT NOT NULL, seq INTEGER NOT NULL, epoch INTEGER NOT NULL,
    src INTEGER NOT NULL, n INTEGER NOT NULL, key TEXT NOT NULL, digest BLOB NOT NULL,
    ts INTEGER NOT NULL, expires INTEGER NOT NULL, device TEXT NOT NULL, frame BLOB NOT NULL,
    PRIMARY KEY (log, seq)
) STRICT, WITHOUT ROWID;

-- Watermarks, merged by max.
CREATE TABLE cursors (
    user TEXT NOT NULL, log TEXT NOT NULL, device TEXT NOT NULL, delivered INTEGER NOT NULL, read INTEGER NOT NULL,
    PRIMARY KEY (user, log, device)
) STRICT, WITHOUT ROWID;

-- How often each topic has been made.
CREATE TABLE incarnations (topic TEXT PRIMARY KEY, incarnation INTEGER NOT NULL) STRICT, WITHOUT ROWID;
