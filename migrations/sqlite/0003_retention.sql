-- Which blobs a task refers to, as originals or as results, so that those of ended tasks can be erased after their time and
-- what nobody refers to can be told from the rest.

CREATE TABLE blob_uses (
    blob_key TEXT    NOT NULL,
    task     INTEGER NOT NULL REFERENCES tasks (sequence) ON DELETE CASCADE,
    class    TEXT    NOT NULL CHECK (class IN ('original', 'result')),
    PRIMARY KEY (blob_key, task, class)
) STRICT, WITHOUT ROWID;

INSERT INTO blob_uses
    SELECT DISTINCT json_extract(source, '$.blob.key'), task, 'original'
    FROM images WHERE json_extract(source, '$.blob.key') IS NOT NULL;
INSERT INTO blob_uses
    SELECT json_extract(options, '$.output.background.blob.key'), sequence, 'original'
    FROM tasks WHERE json_extract(options, '$.output.background.blob.key') IS NOT NULL
    ON CONFLICT DO NOTHING;
INSERT INTO blob_uses
    SELECT DISTINCT json_extract(result, '$.original.key'), task, 'original'
    FROM images WHERE result IS NOT NULL
    ON CONFLICT DO NOTHING;
INSERT INTO blob_uses
    SELECT DISTINCT json_extract(result, '$.' || part.value || '.key'), task, 'result'
    FROM images, json_each('["result", "thumbnail", "alpha"]') AS part WHERE result IS NOT NULL;

-- "Which is the oldest open task?"
CREATE INDEX tasks_open ON tasks (submitted_at_us) WHERE ended_at_us IS NULL;

-- Work that one process at a time does for all: who took it last, and when.
CREATE TABLE duties (
    name        TEXT    NOT NULL PRIMARY KEY,
    taken_at_us INTEGER NOT NULL
) STRICT;
