"""The database's schema, as numbered steps that only go forward.

`PRAGMA user_version` holds the number of the last step applied. A step is never edited once it
was released; a change is a new step. An older file is copied beside itself before it is migrated.
"""

from __future__ import annotations

STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE run(
            name TEXT PRIMARY KEY,
            created REAL NOT NULL,
            config TEXT NOT NULL,
            version TEXT NOT NULL,
            state TEXT NOT NULL DEFAULT 'open',
            reason TEXT NOT NULL DEFAULT ''
        ) STRICT""",
        """CREATE TABLE message(
            seq INTEGER PRIMARY KEY,
            mid TEXT NOT NULL UNIQUE,
            run TEXT NOT NULL REFERENCES run(name),
            type TEXT NOT NULL,
            sender TEXT NOT NULL,
            parent TEXT NOT NULL,
            round INTEGER NOT NULL,
            body TEXT NOT NULL,
            ts REAL NOT NULL,
            tokens INTEGER NOT NULL DEFAULT 0,
            ms REAL NOT NULL DEFAULT 0
        ) STRICT""",
        "CREATE INDEX message_by_run ON message(run, seq)",
        "CREATE INDEX message_by_type ON message(run, type, seq)",
        "CREATE INDEX message_by_round ON message(run, round, seq)",
        """CREATE TABLE delivery(
            run TEXT NOT NULL,
            actor TEXT NOT NULL,
            mid TEXT NOT NULL REFERENCES message(mid),
            done INTEGER,
            PRIMARY KEY (run, actor, mid)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX delivery_open ON delivery(run, mid) WHERE done IS NULL",
        "CREATE INDEX delivery_done ON delivery(run, actor, done) WHERE done IS NOT NULL",
        """CREATE TABLE effect(
            key TEXT PRIMARY KEY,
            kind TEXT NOT NULL,
            request TEXT NOT NULL,
            result TEXT NOT NULL,
            ms REAL NOT NULL,
            ts REAL NOT NULL
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE professional(
            id INTEGER PRIMARY KEY,
            text TEXT NOT NULL UNIQUE,
            source TEXT NOT NULL,
            license TEXT NOT NULL
        ) STRICT""",
        """CREATE VIRTUAL TABLE professional_fts USING fts5(
            text, content='professional', content_rowid='id', tokenize='porter unicode61'
        )""",
        """CREATE TRIGGER professional_added AFTER INSERT ON professional BEGIN
            INSERT INTO professional_fts(rowid, text) VALUES (new.id, new.text);
        END""",
        """CREATE TRIGGER professional_removed AFTER DELETE ON professional BEGIN
            INSERT INTO professional_fts(professional_fts, rowid, text)
            VALUES ('delete', old.id, old.text);
        END""",
    ),
)

VERSION = len(STEPS)
