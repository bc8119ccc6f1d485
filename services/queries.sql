-- Every statement of the store, by name. Parameters are always bound, never formatted in.

-- name: add_run
INSERT INTO run(name, created, config, version) VALUES (:name, :created, :config, :version)
ON CONFLICT(name) DO NOTHING;

-- name: get_run
SELECT name, created, config, version, state, reason FROM run WHERE name = :name;

-- name: list_runs
SELECT name, created, version, state, reason,
  (SELECT count(*) FROM message m WHERE m.run = run.name) AS messages,
  (SELECT coalesce(max(round), 0) FROM message m WHERE m.run = run.name) AS round
FROM run ORDER BY created, name;

-- name: set_run_state
UPDATE run SET state = :state, reason = :reason WHERE name = :name;

-- name: add_message
INSERT INTO message(mid, run, type, sender, parent, round, body, ts, tokens, ms)
VALUES (:mid, :run, :type, :sender, :parent, :round, :body, :ts, :tokens, :ms)
ON CONFLICT(mid) DO NOTHING;

-- name: add_delivery
INSERT INTO delivery(run, actor, mid) VALUES (:run, :actor, :mid) ON CONFLICT DO NOTHING;

-- name: mark_done
UPDATE delivery
SET done = (SELECT coalesce(max(done), 0) + 1 FROM delivery WHERE run = :run AND actor = :actor)
WHERE run = :run AND actor = :actor AND mid = :mid AND done IS NULL;

-- name: is_done
SELECT 1 FROM delivery WHERE run = :run AND actor = :actor AND mid = :mid AND done IS NOT NULL;

-- name: open_deliveries
SELECT m.seq, m.body, m.sender, d.actor FROM delivery d JOIN message m ON m.mid = d.mid
WHERE d.run = :run AND d.done IS NULL ORDER BY m.seq;

-- name: handled_by
SELECT m.body FROM delivery d JOIN message m ON m.mid = d.mid
WHERE d.run = :run AND d.actor = :actor AND d.done IS NOT NULL ORDER BY d.done;

-- name: messages
SELECT seq, mid, type, sender, parent, round, body, ts, tokens, ms FROM message
WHERE run = :run AND seq > :after
  AND (:type IS NULL OR type = :type)
  AND (:round IS NULL OR round = :round)
  AND (:sender IS NULL OR sender = :sender)
ORDER BY seq LIMIT :limit;

-- name: count_messages
SELECT type, count(*) AS n, coalesce(sum(tokens), 0) AS tokens FROM message
WHERE run = :run GROUP BY type ORDER BY type;

-- name: get_effect
SELECT result FROM effect WHERE key = :key;

-- name: put_effect
INSERT INTO effect(key, kind, request, result, ms, ts) VALUES (:key, :kind, :request, :result, :ms, :ts)
ON CONFLICT(key) DO UPDATE SET result = excluded.result, ms = excluded.ms, ts = excluded.ts;

-- name: count_effects
SELECT kind, count(*) AS n, coalesce(sum(ms), 0) AS ms FROM effect GROUP BY kind ORDER BY kind;

-- name: add_professional
INSERT INTO professional(text, source, license) VALUES (:text, :source, :license)
ON CONFLICT(text) DO NOTHING;

-- name: count_professional
SELECT source, license, count(*) AS n FROM professional GROUP BY source, license ORDER BY source;

-- name: search_professional
SELECT p.text, p.source, p.license, bm25(professional_fts) AS rank
FROM professional_fts JOIN professional p ON p.id = professional_fts.rowid
WHERE professional_fts MATCH :query ORDER BY rank, p.id LIMIT :limit;
