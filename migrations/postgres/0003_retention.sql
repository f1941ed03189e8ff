-- Which blobs a task refers to, as originals or as results, so that those of ended tasks can be erased after their time and
-- what nobody refers to can be told from the rest.

CREATE TABLE blob_uses (
    blob_key TEXT   NOT NULL,
    task     BIGINT NOT NULL REFERENCES tasks (sequence) ON DELETE CASCADE,
    class    TEXT   NOT NULL CHECK (class IN ('original', 'result')),
    PRIMARY KEY (blob_key, task, class)
);

-- By pattern and not by path: the columns are text that may hold what PostgreSQL's JSON refuses. Within a name quotes
-- are escaped, so that none of these patterns is found there.
INSERT INTO blob_uses
    SELECT DISTINCT known.blob_key, task, 'original'
    FROM (
        SELECT task, substring(source FROM '"blob":\{"key":"([0-9a-f]{64})"') AS blob_key FROM images
        UNION ALL
        SELECT sequence, substring(options FROM '"background":\{"blob":\{"key":"([0-9a-f]{64})"') FROM tasks
        UNION ALL
        SELECT task, substring(result FROM '"original":\{"key":"([0-9a-f]{64})"') FROM images
    ) AS known
    WHERE known.blob_key IS NOT NULL;
INSERT INTO blob_uses
    SELECT DISTINCT known.blob_key, task, 'result'
    FROM (
        SELECT task, substring(result FROM '"' || part || '":\{"key":"([0-9a-f]{64})"') AS blob_key
        FROM images, unnest(ARRAY['result', 'thumbnail', 'alpha']) AS part
    ) AS known
    WHERE known.blob_key IS NOT NULL;

-- "Which is the oldest open task?"
CREATE INDEX tasks_open ON tasks (submitted_at_us) WHERE ended_at_us IS NULL;

-- Work that one process at a time does for all: who took it last, and when.
CREATE TABLE duties (
    name        TEXT   NOT NULL PRIMARY KEY,
    taken_at_us BIGINT NOT NULL
);
