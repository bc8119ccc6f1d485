"""The database's schema, as numbered steps that only go forward.

`PRAGMA user_version` holds the number of the last step applied. A step is never edited once it
was released; a change is a new step. An older file is copied beside itself before it is migrated.
`PRAGMA application_id` marks a database of 0.2.0 or later, whose numbering begins at 1 again.
"""

from __future__ import annotations

APPLICATION_ID = 0x62677065
"""The letters "bgpe". Databases of 0.1.0 have the default, 0."""

STEPS: tuple[tuple[str, ...], ...] = (
    (
        f"PRAGMA application_id = {APPLICATION_ID}",
        """CREATE TABLE run(
            name TEXT PRIMARY KEY,
            created REAL NOT NULL,
            config TEXT NOT NULL,
            version TEXT NOT NULL,
            state TEXT NOT NULL DEFAULT 'open',
            reason TEXT NOT NULL DEFAULT '',
            seconds REAL NOT NULL DEFAULT 0,
            parent TEXT NOT NULL DEFAULT '',
            -- Which renderer and scorer the run began with.
            models TEXT NOT NULL DEFAULT '{}'
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
        # Pages of a million messages must neither count nor scan them: triggers keep the counts,
        # and every filter has an index in transcript order.
        "CREATE INDEX message_by_sender ON message(run, sender, seq)",
        """CREATE TABLE tally(
            run TEXT NOT NULL,
            type TEXT NOT NULL,
            sender TEXT NOT NULL,
            n INTEGER NOT NULL,
            tokens INTEGER NOT NULL,
            PRIMARY KEY (run, type, sender)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TRIGGER message_added AFTER INSERT ON message BEGIN
            INSERT INTO tally(run, type, sender, n, tokens)
            VALUES (new.run, new.type, new.sender, 1, new.tokens)
            ON CONFLICT DO UPDATE SET n = n + 1, tokens = tokens + excluded.tokens;
        END""",
        """CREATE TRIGGER message_removed AFTER DELETE ON message BEGIN
            UPDATE tally SET n = n - 1, tokens = tokens - old.tokens
            WHERE run = old.run AND type = old.type AND sender = old.sender;
        END""",
        # An actor's state after its `done`-th message, so that resuming need not replay them all.
        """CREATE TABLE snapshot(
            run TEXT NOT NULL,
            actor TEXT NOT NULL,
            done INTEGER NOT NULL,
            version TEXT NOT NULL,
            state TEXT NOT NULL,
            ts REAL NOT NULL,
            PRIMARY KEY (run, actor)
        ) STRICT""",
        # Results on held-out prompts have tables of their own, so that SQLite can refuse them to a
        # run's connection (store.SEALED).
        """CREATE TABLE evaluation(
            run TEXT NOT NULL REFERENCES run(name),
            split TEXT NOT NULL,
            treatment TEXT NOT NULL,
            name TEXT NOT NULL,
            prompt TEXT NOT NULL,
            seed INTEGER NOT NULL,
            naive_score REAL,
            score REAL,
            body TEXT NOT NULL,
            ts REAL NOT NULL,
            PRIMARY KEY (run, split, treatment, prompt, seed)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE evaluation_report(
            id INTEGER PRIMARY KEY,
            run TEXT NOT NULL REFERENCES run(name),
            split TEXT NOT NULL,
            body TEXT NOT NULL,
            ts REAL NOT NULL
        ) STRICT""",
        "CREATE INDEX evaluation_report_by_run ON evaluation_report(run, id)",
        """CREATE TABLE sealed_effect(
            key TEXT PRIMARY KEY,
            kind TEXT NOT NULL,
            request TEXT NOT NULL,
            result TEXT NOT NULL,
            ms REAL NOT NULL,
            ts REAL NOT NULL
        ) STRICT, WITHOUT ROWID""",
        # From a message to what it caused, and from an LLM exchange to the calls that were paid.
        "CREATE INDEX message_by_parent ON message(run, parent, seq)",
        "CREATE INDEX effect_by_kind ON effect(kind, ts)",
        # Votes of people on pairs of pictures; `first` and `second` are treatments.
        """CREATE TABLE vote(
            run TEXT NOT NULL REFERENCES run(name),
            rater TEXT NOT NULL,
            first TEXT NOT NULL,
            second TEXT NOT NULL,
            source TEXT NOT NULL,
            prompt TEXT NOT NULL,
            seed INTEGER NOT NULL,
            first_image TEXT NOT NULL,
            second_image TEXT NOT NULL,
            first_score REAL NOT NULL,
            second_score REAL NOT NULL,
            left_side TEXT NOT NULL CHECK (left_side IN ('first', 'second')),
            choice TEXT NOT NULL CHECK (choice IN ('first', 'second', 'tie')),
            ms REAL NOT NULL,
            ts REAL NOT NULL,
            PRIMARY KEY (run, first, second, rater, prompt, seed)
        ) STRICT, WITHOUT ROWID""",
        # Every real call of a model, stored before the call. A row that a dead process left open
        # may have been billed.
        """CREATE TABLE payment(
            id TEXT PRIMARY KEY,
            run TEXT NOT NULL,
            actor TEXT NOT NULL,
            round INTEGER NOT NULL,
            kind TEXT NOT NULL,
            outcome TEXT NOT NULL DEFAULT 'open',
            prompt_tokens INTEGER NOT NULL DEFAULT 0,
            completion_tokens INTEGER NOT NULL DEFAULT 0,
            ms REAL NOT NULL DEFAULT 0,
            ts REAL NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX payment_by_run ON payment(run, actor, round)",
    ),
    (
        # Parts of the two counts above that have prices of their own.
        "ALTER TABLE payment ADD COLUMN reasoning_tokens INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE payment ADD COLUMN cached_tokens INTEGER NOT NULL DEFAULT 0",
    ),
    (
        # What servers of language models refuse and can do; `learned` is JSON.
        """CREATE TABLE llm_server(
            base_url TEXT NOT NULL,
            model TEXT NOT NULL,
            learned TEXT NOT NULL,
            PRIMARY KEY (base_url, model)
        ) STRICT, WITHOUT ROWID""",
    ),
    (
        # Answers that a run or an evaluation judged unusable, and readers that began afresh.
        """CREATE TABLE discarded_answer(
            key TEXT NOT NULL,
            reader TEXT NOT NULL,
            PRIMARY KEY (key, reader)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE fresh_answers(
            reader TEXT PRIMARY KEY,
            token TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
    ),
)

VERSION = len(STEPS)
