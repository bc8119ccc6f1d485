-- Every statement of the store, by name. Parameters are always bound, never formatted in.
--
-- The loader (store.load_queries) replaces {columns} by the columns of a message. A name with a *
-- stands for two queries: `after` pages forward, `before` backward; {beyond} is the condition on
-- seq and {direction} the order.

-- name: add_run
INSERT INTO run(name, created, config, version) VALUES (:name, :created, :config, :version)
ON CONFLICT(name) DO NOTHING;

-- name: set_run_parent
UPDATE run SET parent = :parent WHERE name = :name;

-- name: get_run
SELECT name, created, config, version, state, reason, seconds, parent, models FROM run WHERE name = :name;

-- name: list_runs
SELECT name, created, config, version, state, reason, seconds, parent,
  (SELECT coalesce(sum(n), 0) FROM tally t WHERE t.run = run.name) AS messages,
  (SELECT coalesce(max(round), 0) FROM message m WHERE m.run = run.name) AS round
FROM run ORDER BY created, name;

-- name: set_run_config
UPDATE run SET config = :config WHERE name = :name;

-- name: set_run_models
UPDATE run SET models = :models WHERE name = :name;

-- name: add_run_seconds
UPDATE run SET seconds = seconds + :seconds WHERE name = :name;

-- name: set_run_state
UPDATE run SET state = :state, reason = :reason WHERE name = :name;

-- name: scored_rewrite
SELECT 1 FROM message WHERE run = :run AND type = 'ImageScored'
AND json_extract(body, '$.purpose') = 'rewrite' LIMIT 1;

-- name: drop_deliveries
DELETE FROM delivery WHERE run = :run;

-- name: drop_snapshots
DELETE FROM snapshot WHERE run = :run;

-- name: drop_messages
DELETE FROM message WHERE run = :run;

-- What takes :rows takes them as a JSON array of objects; see store.many.

-- name: add_messages
INSERT INTO message(mid, run, type, sender, parent, round, body, ts, tokens, ms)
SELECT json_extract(value, '$.mid'), :run, json_extract(value, '$.type'),
  json_extract(value, '$.sender'), json_extract(value, '$.parent'), json_extract(value, '$.round'),
  json_extract(value, '$.body'), json_extract(value, '$.ts'), json_extract(value, '$.tokens'),
  json_extract(value, '$.ms')
FROM json_each(:rows) WHERE true ORDER BY key
ON CONFLICT(mid) DO NOTHING;

-- name: add_deliveries
INSERT INTO delivery(run, actor, mid)
SELECT :run, json_extract(value, '$.actor'), json_extract(value, '$.mid')
FROM json_each(:rows) WHERE true
ON CONFLICT DO NOTHING;

-- MATERIALIZED and CROSS: else SQLite looks through all rows for each delivery.

-- name: mark_done
WITH mark AS MATERIALIZED (
  SELECT d.actor, d.mid, row_number() OVER (PARTITION BY d.actor ORDER BY key) + (
    SELECT coalesce(max(done), 0) FROM delivery
    WHERE run = :run AND actor = d.actor AND done IS NOT NULL
  ) AS done
  FROM json_each(:rows) CROSS JOIN delivery d ON d.run = :run
    AND d.actor = json_extract(value, '$.actor') AND d.mid = json_extract(value, '$.mid')
  WHERE d.done IS NULL
)
UPDATE delivery SET done = mark.done FROM mark
WHERE delivery.run = :run AND delivery.actor = mark.actor AND delivery.mid = mark.mid
  AND delivery.done IS NULL;

-- name: is_done
SELECT 1 FROM delivery WHERE run = :run AND actor = :actor AND mid = :mid AND done IS NOT NULL;

-- name: open_deliveries
SELECT m.seq, m.body, m.sender, d.actor
FROM delivery d INDEXED BY delivery_open JOIN message m ON m.mid = d.mid
WHERE d.run = :run AND d.done IS NULL ORDER BY m.seq;

-- name: next_delivery
SELECT m.body FROM delivery d JOIN message m ON m.mid = d.mid
WHERE d.run = :run AND d.actor = :actor AND d.done IS NULL ORDER BY m.seq LIMIT 1;

-- name: add_past_deliveries
INSERT INTO delivery(run, actor, mid)
SELECT run, :actor, mid FROM message WHERE run = :run AND type = :type ORDER BY seq
ON CONFLICT DO NOTHING;

-- name: last_text
SELECT json_extract(body, '$.texts[#-1]') AS text FROM message
WHERE run = :run AND type = 'RoleSaid' AND sender = :sender
  AND json_extract(body, '$.texts[0]') IS NOT NULL
ORDER BY seq DESC LIMIT 1;

-- name: spent_by
SELECT body FROM message
WHERE run = :run AND round BETWEEN :first AND :last AND sender = :sender
  AND type IN ('RoleSaid', 'StepFailed')
ORDER BY seq;

-- name: handled_by
SELECT m.body FROM delivery d JOIN message m ON m.mid = d.mid
WHERE d.run = :run AND d.actor = :actor AND d.done IS NOT NULL AND d.done > :after
ORDER BY d.done;

-- name: put_snapshot
INSERT INTO snapshot(run, actor, done, version, state, ts) VALUES (
  :run, :actor,
  (SELECT max(done) FROM delivery WHERE run = :run AND actor = :actor AND done IS NOT NULL),
  :version, :state, :ts
)
ON CONFLICT(run, actor) DO UPDATE
SET done = excluded.done, version = excluded.version, state = excluded.state, ts = excluded.ts;

-- name: get_snapshot
SELECT done, state FROM snapshot WHERE run = :run AND actor = :actor AND version = :version;

-- Pages of a transcript; see paging.py. INDEXED BY: without statistics SQLite may pick another.

-- name: messages_*
SELECT {columns}
FROM message INDEXED BY message_by_run
WHERE run = :run AND seq {beyond}
ORDER BY seq {direction} LIMIT :limit;

-- name: messages_*_by_type
SELECT {columns}
FROM message INDEXED BY message_by_type
WHERE run = :run AND type = :type AND seq {beyond}
  AND (:sender IS NULL OR sender = :sender)
ORDER BY seq {direction} LIMIT :limit;

-- name: messages_*_by_round
SELECT {columns}
FROM message INDEXED BY message_by_round
WHERE run = :run AND round = :round AND seq {beyond}
  AND (:type IS NULL OR type = :type) AND (:sender IS NULL OR sender = :sender)
ORDER BY seq {direction} LIMIT :limit;

-- name: messages_*_by_sender
SELECT {columns}
FROM message INDEXED BY message_by_sender
WHERE run = :run AND sender = :sender AND seq {beyond}
ORDER BY seq {direction} LIMIT :limit;

-- name: count_messages
SELECT type, sum(n) AS n, sum(tokens) AS tokens FROM tally
WHERE run = :run AND n > 0 GROUP BY type ORDER BY type;

-- name: count_messages_by_sender
SELECT type, sender, n, tokens FROM tally
WHERE run = :run AND n > 0 ORDER BY type, sender;

-- name: open_payment
INSERT INTO payment(id, run, actor, round, kind, ts) VALUES (:id, :run, :actor, :round, :kind, :ts);

-- name: settle_payment
UPDATE payment SET outcome = :outcome, prompt_tokens = :prompt_tokens,
  completion_tokens = :completion_tokens, reasoning_tokens = :reasoning_tokens,
  cached_tokens = :cached_tokens, ms = :ms
WHERE id = :id;

-- name: payments
SELECT actor, round, kind, outcome, count(*) AS calls, sum(prompt_tokens) AS prompt_tokens,
  sum(completion_tokens) AS completion_tokens, sum(reasoning_tokens) AS reasoning_tokens,
  sum(cached_tokens) AS cached_tokens, sum(ms) AS ms
FROM payment WHERE run = :run GROUP BY actor, round, kind, outcome ORDER BY actor, round, kind;

-- name: asked_of_llms
SELECT coalesce(
    nullif(json_extract(body, '$.role'), ''), nullif(json_extract(body, '$.author'), ''), sender
  ) AS role, round,
  sum(json_extract(body, '$.usage.calls')) AS calls,
  sum(json_extract(body, '$.usage.prompt_tokens')) AS prompt_tokens,
  sum(json_extract(body, '$.usage.completion_tokens')) AS completion_tokens,
  coalesce(sum(json_extract(body, '$.usage.reasoning_tokens')), 0) AS reasoning_tokens,
  coalesce(sum(json_extract(body, '$.usage.cached_tokens')), 0) AS cached_tokens
FROM message INDEXED BY message_by_type
WHERE run = :run AND json_extract(body, '$.usage.calls') > 0 AND type IN (
  'PromptsRewritten', 'GradientsComputed', 'InstructionsProposed', 'StepFailed', 'GateDecided',
  'RoleReported'
)
GROUP BY 1, 2 ORDER BY 1, 2;

-- name: asked_pictures
SELECT round, count(*) AS pictures FROM (
  SELECT min(round) AS round FROM message INDEXED BY message_by_type
  WHERE run = :run AND type = :type
  GROUP BY json_extract(body, '$.prompt'), json_extract(body, '$.seed')
) GROUP BY round ORDER BY round;

-- name: pulls
SELECT round, json_extract(body, '$.instruction') AS instruction
FROM message INDEXED BY message_by_type
WHERE run = :run AND type = 'RewriteRequested' ORDER BY round;

-- name: get_effect
SELECT result FROM effect WHERE key = :key;

-- name: put_effect
INSERT INTO effect(key, kind, request, result, ms, ts) VALUES (:key, :kind, :request, :result, :ms, :ts)
ON CONFLICT(key) DO UPDATE SET result = excluded.result, ms = excluded.ms, ts = excluded.ts;

-- name: discard_answer
INSERT INTO discarded_answer(key, reader) VALUES (:key, :reader) ON CONFLICT DO NOTHING;

-- name: discarded_by
SELECT reader FROM discarded_answer WHERE key = :key;

-- name: disown_discarded
UPDATE OR REPLACE discarded_answer SET reader = '' WHERE reader = :reader;

-- name: set_fresh_answers
INSERT INTO fresh_answers(reader, token) VALUES (:reader, :token)
ON CONFLICT(reader) DO UPDATE SET token = excluded.token;

-- name: fresh_answers
SELECT token FROM fresh_answers WHERE reader = :reader;

-- name: get_sealed_effect
SELECT result FROM sealed_effect WHERE key = :key;

-- name: put_sealed_effect
INSERT INTO sealed_effect(key, kind, request, result, ms, ts)
VALUES (:key, :kind, :request, :result, :ms, :ts)
ON CONFLICT(key) DO UPDATE SET result = excluded.result, ms = excluded.ms, ts = excluded.ts;

-- name: put_evaluation
INSERT INTO evaluation(run, split, treatment, name, prompt, seed, naive_score, score, body, ts)
VALUES (:run, :split, :treatment, :name, :prompt, :seed, :naive_score, :score, :body, :ts)
ON CONFLICT(run, split, treatment, prompt, seed) DO UPDATE SET name = excluded.name,
  naive_score = excluded.naive_score, score = excluded.score, body = excluded.body, ts = excluded.ts;

-- name: evaluation_rows
SELECT treatment, name, prompt, seed, naive_score, score, body, ts FROM evaluation
WHERE run = :run AND split = :split ORDER BY treatment, prompt, seed;

-- name: put_evaluation_report
INSERT INTO evaluation_report(run, split, body, ts) VALUES (:run, :split, :body, :ts);

-- name: evaluation_report
SELECT id, split, body, ts FROM evaluation_report WHERE run = :run ORDER BY id DESC LIMIT 1;

-- name: message_texts
SELECT seq AS at, body AS text FROM message WHERE seq > :after ORDER BY seq LIMIT :limit;

-- name: effect_texts
SELECT key AS at, request || result AS text FROM effect
WHERE key > :after ORDER BY key LIMIT :limit;

-- name: sealed_effect_texts
SELECT key AS at, request || result AS text FROM sealed_effect
WHERE key > :after ORDER BY key LIMIT :limit;

-- name: further_texts
SELECT body AS text FROM evaluation
UNION ALL SELECT body FROM evaluation_report
UNION ALL SELECT state FROM snapshot
UNION ALL SELECT first_image || ' ' || second_image FROM vote;

-- name: add_professionals
INSERT INTO professional(text, source, license)
SELECT json_extract(value, '$.text'), json_extract(value, '$.source'),
  json_extract(value, '$.license')
FROM json_each(:rows) WHERE true ORDER BY key
ON CONFLICT(text) DO NOTHING;

-- name: count_professional
SELECT source, license, count(*) AS n FROM professional GROUP BY source, license ORDER BY source;

-- name: search_professional
SELECT p.text, p.source, p.license, bm25(professional_fts) AS rank
FROM professional_fts JOIN professional p ON p.id = professional_fts.rowid
WHERE professional_fts MATCH :query
  AND p.source NOT IN (SELECT value FROM json_each(:without))
ORDER BY rank, p.id LIMIT :limit;

-- name: data_version
PRAGMA data_version;

-- name: last_seq
SELECT coalesce(max(seq), 0) AS seq FROM message WHERE run = :run;

-- name: messages_of_kind
SELECT seq, body, ts FROM message INDEXED BY message_by_type
WHERE run = :run AND type = :type AND seq > :after AND seq <= :upto
ORDER BY seq LIMIT :limit;

-- name: truncated_scores
SELECT seq, body, ts FROM message INDEXED BY message_by_type
WHERE run = :run AND type = :type AND seq > :after AND seq <= :upto
  AND json_extract(body, '$.truncated') > 0
ORDER BY seq LIMIT :limit;

-- name: pool_changes
SELECT json_extract(body, '$.admitted') AS admitted,
  (SELECT json_group_array(value ->> '$.instruction') FROM json_each(body, '$.retired')) AS retired
FROM message INDEXED BY message_by_type
WHERE run = :run AND type = 'PoolChanged' AND seq <= :upto
  AND (json_array_length(body, '$.admitted') > 0 OR json_array_length(body, '$.retired') > 0)
ORDER BY seq;

-- name: message_by_mid
SELECT {columns} FROM message
WHERE run = :run AND mid = :mid;

-- name: message_by_start
SELECT {columns} FROM message
WHERE +run = :run AND mid >= :start AND mid < :end ORDER BY mid LIMIT :limit;

-- name: message_by_seq
SELECT {columns} FROM message
WHERE run = :run AND seq = :seq;

-- name: consequences
SELECT {columns} FROM message INDEXED BY message_by_parent
WHERE run = :run AND parent = :mid AND seq > :after ORDER BY seq LIMIT :limit;

-- name: effect_by_key
SELECT key, request, result, ms, ts FROM effect WHERE key = :key;

-- name: ends_of_run
SELECT (SELECT min(seq) FROM message WHERE run = :run) AS first,
  (SELECT max(seq) FROM message WHERE run = :run) AS last;

-- name: search_*
SELECT {columns}
FROM message INDEXED BY message_by_run
WHERE run = :run AND seq BETWEEN :lowest AND :highest
  AND (:type IS NULL OR type = :type) AND (:round IS NULL OR round = :round)
  AND (:sender IS NULL OR sender = :sender) AND (:pattern IS NULL OR body LIKE :pattern)
ORDER BY seq {direction} LIMIT :limit;

-- name: put_vote
INSERT INTO vote(run, rater, first, second, source, prompt, seed, first_image, second_image,
  first_score, second_score, left_side, choice, ms, ts)
VALUES (:run, :rater, :first, :second, :source, :prompt, :seed, :first_image, :second_image,
  :first_score, :second_score, :left_side, :choice, :ms, :ts)
ON CONFLICT DO NOTHING;

-- name: drop_vote
DELETE FROM vote WHERE run = :run AND rater = :rater AND first = :first AND second = :second
  AND prompt = :prompt AND seed = :seed;

-- name: votes
SELECT * FROM vote WHERE run = :run AND first = :first AND second = :second
ORDER BY ts, rater, prompt, seed;

-- name: voted
SELECT DISTINCT first, second FROM vote WHERE run = :run ORDER BY first, second;

-- name: all_learned
SELECT base_url, model, learned FROM llm_server ORDER BY base_url, model;

-- name: put_learned
INSERT INTO llm_server(base_url, model, learned) VALUES (:base_url, :model, :learned)
ON CONFLICT(base_url, model) DO UPDATE SET learned = excluded.learned;
