-- The ledger: tasks, their images, the outbox of what is to be published, the inbox of what was applied.
-- Times are microseconds since 1970 in UTC; columns that hold JSON hold the types of the crate `atelier-schemas`, as text
-- and not as `jsonb`, which would change the order of keys and refuse what a name may hold.

CREATE TABLE tasks (
    -- The order in which this ledger came to know its tasks; the key of the list, so it never changes.
    sequence        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task_id         TEXT   NOT NULL UNIQUE,
    -- SHA-256 of the request; NULL where the task came by topic.
    fingerprint     TEXT,
    -- 0 where nothing is known of the task but that it was refused as a whole.
    image_count     BIGINT NOT NULL CHECK (image_count >= 0),
    options         TEXT   NOT NULL,
    status          TEXT   NOT NULL CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
    submitted_at_us BIGINT NOT NULL,
    ended_at_us     BIGINT,
    -- Why the task as a whole failed.
    error           TEXT
);

CREATE TABLE images (
    task               BIGINT NOT NULL REFERENCES tasks (sequence) ON DELETE CASCADE,
    image_index        BIGINT NOT NULL,
    -- NULL until the event that names it has come.
    source             TEXT,
    status             TEXT   NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'completed', 'failed')),
    result             TEXT,
    processing_time_ms DOUBLE PRECISION NOT NULL DEFAULT 0,
    error              TEXT,
    PRIMARY KEY (task, image_index),
    CHECK ((status = 'completed') = (result IS NOT NULL)),
    CHECK ((status = 'failed') = (error IS NOT NULL))
);

-- "Was this the last one?" is asked at each end.
CREATE INDEX images_pending ON images (task) WHERE status = 'pending';

-- Failures of images whose task is not known yet: they end the image as soon as it is.
CREATE TABLE early_failures (
    -- The order in which they came.
    sequence   BIGINT GENERATED ALWAYS AS IDENTITY,
    task_id    TEXT   NOT NULL,
    image_id   TEXT   NOT NULL,
    error      TEXT   NOT NULL,
    seen_at_us BIGINT NOT NULL,
    PRIMARY KEY (task_id, image_id)
);

CREATE TABLE outbox (
    sequence      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id      TEXT   NOT NULL UNIQUE,
    task_id       TEXT   NOT NULL,
    topic         TEXT   NOT NULL,
    event_type    TEXT   NOT NULL,
    value         BYTEA  NOT NULL,
    traceparent   TEXT,
    created_at_us BIGINT NOT NULL,
    sent_at_us    BIGINT
);

CREATE INDEX outbox_unsent ON outbox (sequence) WHERE sent_at_us IS NULL;
CREATE INDEX outbox_sent ON outbox (sent_at_us) WHERE sent_at_us IS NOT NULL;

-- Which events were applied, and which events followed: a repeat is answered from here.
CREATE TABLE inbox (
    event_id      TEXT   NOT NULL PRIMARY KEY,
    events        TEXT   NOT NULL,
    applied_at_us BIGINT NOT NULL
);

CREATE INDEX inbox_applied ON inbox (applied_at_us);
