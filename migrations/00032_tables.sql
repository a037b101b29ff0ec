-- +goose Up

-- Of exports as tables: whose rows are in a part, by the name of the view, and in which format. Its ids are those of the
-- resources that the rows are of.
ALTER TABLE export.part
  ADD COLUMN view   text,
  ADD COLUMN format text,
  ADD CONSTRAINT part_table CHECK ((view IS NULL) = (format IS NULL));

-- +goose Down
-- Earlier versions know lines alone: exports as tables are over, and their objects are removed.
INSERT INTO export.object (name, until, doomed) SELECT p.name, now(), true FROM export.part p WHERE EXISTS (SELECT FROM export.part t WHERE t.job = p.job AND t.view IS NOT NULL)
  ON CONFLICT (name) DO UPDATE SET doomed = true;
DELETE FROM export.job j WHERE EXISTS (SELECT FROM export.part t WHERE t.job = j.id AND t.view IS NOT NULL);
ALTER TABLE export.part DROP CONSTRAINT part_table, DROP COLUMN view, DROP COLUMN format;
