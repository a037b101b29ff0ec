-- +goose Up

-- The SearchParameter resources of a practice that its searches may use, once
-- what was stored before them is indexed, too.
CREATE TABLE record.search_parameter (
  tenant     integer NOT NULL,
  pk         bigint NOT NULL,              -- of the SearchParameter
  generation bigint NOT NULL,              -- digest of what it selects: another one is another parameter
  types      smallint[] NOT NULL,          -- that it is for
  ready      boolean NOT NULL,
  PRIMARY KEY (tenant, pk)
);

-- Grows with every change of the above, so that whoever stores a resource sees
-- whether it knows all definitions.
CREATE TABLE record.search_revision (
  tenant integer PRIMARY KEY,
  n      bigint NOT NULL
);

-- Indexing anew what is stored: for one SearchParameter, or all of it (pk 0).
-- Where it stands is written with each batch, so that another server goes on
-- from there when the one that had the lease has ended.
CREATE TABLE record.reindex (
  tenant  integer NOT NULL,
  pk      bigint NOT NULL,
  run     uuid NOT NULL,                   -- changes when it begins anew
  types   smallint[] NOT NULL,             -- that are still to do, the first is under way
  planned integer NOT NULL,                -- how many they were
  schema  text COLLATE "C" NOT NULL,       -- of the type under way: where it stands, with id and shadow
  id      text COLLATE "C" NOT NULL,
  shadow  smallint NOT NULL,
  holder  uuid,
  lease   timestamptz,
  PRIMARY KEY (tenant, pk)
);

-- What a change must know before it computes an index: the revision of the
-- practice's definitions. Until the transaction ends it stays the current one;
-- whoever changes a definition waits for all others, and they for him. The body
-- is a function because only a new statement sees what was committed during the wait.
-- +goose StatementBegin
CREATE FUNCTION record.search_definitions(practice integer, change boolean) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF change THEN
    PERFORM pg_catalog.pg_advisory_xact_lock(1668246369, practice);
  ELSE
    PERFORM pg_catalog.pg_advisory_xact_lock_shared(1668246369, practice);
  END IF;
  RETURN COALESCE((SELECT r.n FROM record.search_revision r WHERE r.tenant = practice), 0);
END
$$;
-- +goose StatementEnd

GRANT SELECT, INSERT, UPDATE, DELETE ON record.search_parameter, record.reindex TO cloister_app, cloister_notes;
GRANT SELECT, INSERT, UPDATE ON record.search_revision TO cloister_app, cloister_notes;

-- +goose Down
DROP FUNCTION record.search_definitions(integer, boolean);
DROP TABLE record.reindex, record.search_revision, record.search_parameter;
