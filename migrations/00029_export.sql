-- +goose Up

-- What earlier versions wrote cannot be fetched in ranges: those exports are over, and their objects are removed.
INSERT INTO export.object (name, until, doomed) SELECT name, now(), true FROM export.part ON CONFLICT (name) DO UPDATE SET doomed = true;
DELETE FROM export.job;

ALTER TABLE export.part ADD COLUMN lengths integer[] NOT NULL;    -- bytes of each line, with its end

-- +goose Down
ALTER TABLE export.part DROP COLUMN lengths;
