-- +goose Up

-- A resource that mentions what is more protected than itself is kept in several
-- views, each a row of its own: the whole, and what is left of it without those
-- mentions. family is what the views of one resource share, and view is their
-- order: 1 says least, 0 stands for a resource that has but one. Of several views
-- a caller sees the fullest that she may see.
--
-- flow is the protection of the view that says least: it is what whoever refers
-- to the resource says of it. NULL: the row's own.
-- +goose StatementBegin
DO $$
DECLARE
  s text;
BEGIN
  FOREACH s IN ARRAY ARRAY['record', 'notes'] LOOP
    EXECUTE format($f$
      ALTER TABLE %1$I.resource ADD family bigint, ADD view smallint NOT NULL DEFAULT 0,
        ADD flow_class smallint, ADD flow_programs text[] COLLATE "C", ADD CHECK ((family IS NULL) = (view = 0));
      CREATE INDEX resource_family ON %1$I.resource (family, view) WHERE family IS NOT NULL;
    $f$, s);
  END LOOP;
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP INDEX notes.resource_family, record.resource_family;
ALTER TABLE notes.resource DROP family, DROP view, DROP flow_class, DROP flow_programs;
ALTER TABLE record.resource DROP family, DROP view, DROP flow_class, DROP flow_programs;
