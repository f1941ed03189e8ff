-- A cancelled task's open images end as cancelled, and say why. SQLite cannot change a check: the table is made anew.
-- No other table refers to this one, so that dropping it takes nothing with it.

CREATE TABLE images_with_cancelled (
    task               INTEGER NOT NULL REFERENCES tasks (sequence) ON DELETE CASCADE,
    image_index        INTEGER NOT NULL,
    -- NULL until the event that names it has come.
    source             TEXT,
    status             TEXT    NOT NULL DEFAULT 'pending'
                               CHECK (status IN ('pending', 'completed', 'failed', 'cancelled')),
    result             TEXT,
    processing_time_ms REAL    NOT NULL DEFAULT 0,
    error              TEXT,
    PRIMARY KEY (task, image_index),
    CHECK ((status = 'completed') = (result IS NOT NULL)),
    CHECK ((status IN ('failed', 'cancelled')) = (error IS NOT NULL))
) STRICT;

INSERT INTO images_with_cancelled (task, image_index, source, status, result, processing_time_ms, error)
SELECT task, image_index, source, status, result, processing_time_ms, error FROM images;

DROP TABLE images;
ALTER TABLE images_with_cancelled RENAME TO images;

-- "Was this the last one?" is asked at each end.
CREATE INDEX images_pending ON images (task) WHERE status = 'pending';
