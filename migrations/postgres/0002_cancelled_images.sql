-- A cancelled task's open images end as cancelled, and say why.
-- Of the two unnamed checks of the table the server called the one about errors `images_check1`.

ALTER TABLE images
    DROP CONSTRAINT images_status_check,
    DROP CONSTRAINT images_check1,
    ADD CONSTRAINT images_status_check CHECK (status IN ('pending', 'completed', 'failed', 'cancelled')),
    ADD CONSTRAINT images_error_check CHECK ((status IN ('failed', 'cancelled')) = (error IS NOT NULL));
