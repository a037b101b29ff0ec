-- +goose Up

-- The keys of de-identified releases (45 CFR 164.514(c)): which resource is which in a release, and by how
-- many days a patient's dates are moved. The role that reads and writes them reaches no record, and the roles
-- that reach records reach nothing here: whoever has one side alone links nobody. All of it goes with its release.
-- +goose StatementBegin
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'cloister_deident') THEN
    CREATE ROLE cloister_deident NOLOGIN;
  END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
  NULL; -- another database of this cluster migrates at the same moment
END
$$;
-- +goose StatementEnd
GRANT cloister_deident TO CURRENT_USER;

CREATE SCHEMA deident;

CREATE TABLE deident.release (
  id      uuid PRIMARY KEY,               -- of the export, or of one that no job makes
  tenant  integer NOT NULL,
  turn    bigint NOT NULL,                -- the newest that was taken: what an older one writes is refused
  round   integer NOT NULL,               -- how often it was surveyed anew
  report  jsonb,                          -- once it is settled: for whoever answers for the release
  expires timestamptz NOT NULL
);
CREATE INDEX release_expires ON deident.release (expires);

CREATE TABLE deident.member (
  release   uuid NOT NULL REFERENCES deident.release ON DELETE CASCADE,
  type      text COLLATE "C" NOT NULL,
  id        text COLLATE "C" NOT NULL,    -- as stored
  surrogate text COLLATE "C" NOT NULL CHECK (surrogate ~ '^[A-Z2-7]{26}$'),
  patient   text COLLATE "C" NOT NULL,    -- as stored; '' for what belongs to no patient
  counted   bytea,                        -- digest of what was counted
  version   integer NOT NULL DEFAULT 0,   -- that was written; 0 as long as it was not
  row       bigint NOT NULL DEFAULT 0,    -- and the view
  PRIMARY KEY (release, type, id),
  UNIQUE (release, type, surrogate)
);

-- Whom an expert's determination is about.
CREATE TABLE deident.patient (
  release     uuid NOT NULL REFERENCES deident.release ON DELETE CASCADE,
  patient     text COLLATE "C" NOT NULL,
  alike       text NOT NULL DEFAULT '',   -- quasi-identifiers
  shift       smallint CHECK (shift BETWEEN -366 AND 366 AND shift <> 0),
  member      boolean NOT NULL DEFAULT false, -- something of hers was surveyed
  suppressed  boolean NOT NULL DEFAULT false,
  generalised boolean NOT NULL DEFAULT false,
  PRIMARY KEY (release, patient)
);

-- Who has which code.
CREATE TABLE deident.cell (
  release uuid NOT NULL REFERENCES deident.release ON DELETE CASCADE,
  cell    text COLLATE "C" NOT NULL,
  patient text COLLATE "C" NOT NULL,
  PRIMARY KEY (release, cell, patient)
);

-- What the survey of each page left out.
CREATE TABLE deident.piece (
  release uuid NOT NULL REFERENCES deident.release ON DELETE CASCADE,
  piece   text COLLATE "C" NOT NULL,
  report  jsonb NOT NULL,
  PRIMARY KEY (release, piece)
);

-- The codes that are left out.
CREATE TABLE deident.rare (
  release uuid NOT NULL REFERENCES deident.release ON DELETE CASCADE,
  cell    text COLLATE "C" NOT NULL,
  PRIMARY KEY (release, cell)
);

GRANT USAGE ON SCHEMA deident TO cloister_deident;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA deident TO cloister_deident;

-- Two more ways in which an export can end.
ALTER TABLE export.job DROP CONSTRAINT job_reason_check;
ALTER TABLE export.job ADD CONSTRAINT job_reason_check CHECK (reason IN ('', 'denied', 'internal', 'changed', 'small'));

-- +goose Down
DELETE FROM export.job WHERE reason IN ('changed', 'small');
ALTER TABLE export.job DROP CONSTRAINT job_reason_check;
ALTER TABLE export.job ADD CONSTRAINT job_reason_check CHECK (reason IN ('', 'denied', 'internal'));
DROP SCHEMA deident CASCADE;
