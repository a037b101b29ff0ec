-- +goose Up

-- What earlier versions wrote cannot be fetched in ranges: those exports are over, and their objects are removed.
INSERT INTO export.object (name, until, doomed) SELECT name, now(), true FROM export.part ON CONFLICT (name) DO UPDATE SET doomed = true;
DELETE FROM export.job;

ALTER TABLE export.part ADD COLUMN lengths integer[] NOT NULL;    -- bytes of each line, with its end
ALTER TABLE export.job
  ADD COLUMN parts  integer NOT NULL DEFAULT 0,     -- how many there are
  ADD COLUMN pages  integer[] NOT NULL DEFAULT '{}', -- the last file of each manifest that was shown: it is as it is
  ADD COLUMN polled timestamptz,                    -- when it was last asked how far it is
  ADD COLUMN haste  integer NOT NULL DEFAULT 0;     -- how often that was too early

-- +goose Down
ALTER TABLE export.part DROP COLUMN lengths;
ALTER TABLE export.job DROP COLUMN parts, DROP COLUMN pages, DROP COLUMN polled, DROP COLUMN haste;
