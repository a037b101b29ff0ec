-- +goose Up

-- What a search finds is computed by the program when it stores a resource, and
-- this version computes other things than the one before. SQL cannot make up for
-- it, so a database that holds records is left as it is: its records are to be
-- exported and imported into a new one.
-- +goose StatementBegin
DO $$
BEGIN
  IF EXISTS (SELECT FROM record.resource) OR EXISTS (SELECT FROM notes.resource) THEN
    RAISE EXCEPTION 'the records of this database were indexed by an earlier version: import them into a new database' USING ERRCODE = 'CL001';
  END IF;
END
$$;
-- +goose StatementEnd

-- self is the resource as the target of references, and canonical its url where
-- its type is referred to by canonical url: what stands in refs (without a
-- parameter) of whatever refers to it. at is the clinical date of its type.
ALTER TABLE record.resource ADD self bigint NOT NULL, ADD canonical bigint, ADD at_lo timestamptz, ADD at_hi timestamptz,
  ADD CHECK ((at_lo IS NULL) = (at_hi IS NULL));
ALTER TABLE notes.resource ADD self bigint NOT NULL, ADD canonical bigint, ADD at_lo timestamptz, ADD at_hi timestamptz,
  ADD CHECK ((at_lo IS NULL) = (at_hi IS NULL));

-- key and key_system are the token part of a composite's element; 0 without one.
ALTER TABLE record.resource_date ADD key bigint NOT NULL DEFAULT 0, ADD key_system bigint NOT NULL DEFAULT 0;
ALTER TABLE notes.resource_date ADD key bigint NOT NULL DEFAULT 0, ADD key_system bigint NOT NULL DEFAULT 0;
ALTER TABLE record.resource_string ADD key bigint NOT NULL DEFAULT 0, ADD key_system bigint NOT NULL DEFAULT 0;
ALTER TABLE notes.resource_string ADD key bigint NOT NULL DEFAULT 0, ADD key_system bigint NOT NULL DEFAULT 0;

-- Numbers and quantities: as written, and in the canonical unit. hi and unit_hi
-- are there for ranges only, so that one index finds what lies above a number.
CREATE TABLE record.resource_quantity (
  tenant     integer NOT NULL,
  type       smallint NOT NULL,
  param      text COLLATE "C" NOT NULL,
  pk         bigint NOT NULL,
  key        bigint NOT NULL,
  key_system bigint NOT NULL,
  lo         double precision NOT NULL,
  unit       bigint NOT NULL,              -- 0: a number without a unit
  unit_lo    double precision NOT NULL,
  hi         double precision,
  unit_hi    double precision,
  CHECK ((hi IS NULL) = (unit_hi IS NULL))
);
CREATE TABLE notes.resource_quantity (LIKE record.resource_quantity INCLUDING ALL);

-- Text is compared without regard to case and accents. Only ICU knows about the
-- case of all scripts whatever the locale of the database; without ICU it is up to that.
-- +goose StatementBegin
DO $$
BEGIN
  EXECUTE format($f$
    CREATE FUNCTION record.fold(t text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $b$
      SELECT pg_catalog.btrim(pg_catalog.regexp_replace(pg_catalog.lower(pg_catalog.regexp_replace(
        normalize(t, NFD), '[\u0300-\u036f]', '', 'g') %s) COLLATE "C", '[\s[:cntrl:]]+', ' ', 'g'))
    $b$ $f$, (SELECT 'COLLATE pg_catalog."und-x-icu"' FROM pg_collation WHERE collname = 'und-x-icu'));
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
DECLARE
  s text;
BEGIN
  FOREACH s IN ARRAY ARRAY['record', 'notes'] LOOP
    EXECUTE format($f$
      CREATE INDEX resource_self ON %1$I.resource (self) WHERE NOT deleted;
      CREATE INDEX resource_canonical ON %1$I.resource (canonical) WHERE NOT deleted AND canonical IS NOT NULL;
      CREATE INDEX resource_at ON %1$I.resource (tenant, type, at_lo DESC, id DESC) WHERE NOT deleted;
      CREATE INDEX resource_patient_at ON %1$I.resource (tenant, type, patient, at_lo DESC, id DESC) WHERE NOT deleted;
      -- Most dates span a minute at most, so that their beginning says when they
      -- end. A search for what ends after a moment looks at the others apart.
      CREATE INDEX resource_at_day ON %1$I.resource (tenant, type, at_lo DESC, id DESC)
        WHERE NOT deleted AND at_hi - at_lo > interval '00:01:00' AND at_hi - at_lo <= interval '24:00:00';
      CREATE INDEX resource_at_long ON %1$I.resource (tenant, type, at_hi) WHERE NOT deleted AND at_hi - at_lo > interval '24:00:00';
      CREATE STATISTICS %1$I.resource_span (mcv) ON type, (at_hi - at_lo) FROM %1$I.resource;

      CREATE INDEX resource_quantity_row ON %1$I.resource_quantity (tenant, pk);
      CREATE INDEX resource_quantity_lo ON %1$I.resource_quantity (tenant, type, param, lo);
      CREATE INDEX resource_quantity_unit ON %1$I.resource_quantity (tenant, type, param, unit, unit_lo);
      CREATE INDEX resource_quantity_key ON %1$I.resource_quantity (tenant, type, param, key, unit, unit_lo) WHERE key <> 0;
      CREATE INDEX resource_quantity_key_lo ON %1$I.resource_quantity (tenant, type, param, key, lo) WHERE key <> 0;
      CREATE INDEX resource_quantity_range ON %1$I.resource_quantity (tenant, type, param) WHERE hi IS NOT NULL;

      GRANT SELECT, INSERT, DELETE ON %1$I.resource_quantity TO cloister_notes;
    $f$, s);
  END LOOP;
END
$$;
-- +goose StatementEnd

GRANT SELECT, INSERT, DELETE ON record.resource_quantity TO cloister_app;

-- +goose Down

DROP TABLE record.resource_quantity, notes.resource_quantity;
DROP FUNCTION record.fold(text);
DROP STATISTICS record.resource_span, notes.resource_span;
ALTER TABLE record.resource_string DROP key, DROP key_system;
ALTER TABLE notes.resource_string DROP key, DROP key_system;
ALTER TABLE record.resource_date DROP key, DROP key_system;
ALTER TABLE notes.resource_date DROP key, DROP key_system;
ALTER TABLE record.resource DROP self, DROP canonical, DROP at_lo, DROP at_hi;
ALTER TABLE notes.resource DROP self, DROP canonical, DROP at_lo, DROP at_hi;
