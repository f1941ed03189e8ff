-- Versions of a picture: an image that repeats another one's original with other options. The first image of all that repeat
-- each other names them; it is version 1 and knows nothing of the others.

ALTER TABLE images ADD COLUMN version INTEGER NOT NULL DEFAULT 1 CHECK (version >= 1);
-- The first image; NULL where this one repeats none.
ALTER TABLE images ADD COLUMN first_task INTEGER REFERENCES tasks (sequence) ON DELETE SET NULL;
ALTER TABLE images ADD COLUMN first_index INTEGER;

CREATE UNIQUE INDEX images_versions ON images (first_task, first_index, version) WHERE first_task IS NOT NULL;

-- The version that a first image's latest repeat has. A row of its own, so that those who repeat it take turns here and
-- wait for nobody who ends it.
CREATE TABLE latest_versions (
    task        INTEGER NOT NULL REFERENCES tasks (sequence) ON DELETE CASCADE,
    image_index INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    PRIMARY KEY (task, image_index)
) STRICT, WITHOUT ROWID;
