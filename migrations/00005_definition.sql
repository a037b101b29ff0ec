-- +goose Up

-- FHIR packages: published definitions, the same for every practice. The server
-- reads them; only the owner of the schema installs (cloister package install).
CREATE SCHEMA definition;

CREATE TABLE definition.package (
  id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name          text COLLATE "C" NOT NULL,
  version       text COLLATE "C" NOT NULL,
  fhir_versions text[] NOT NULL,
  dependencies  text[] NOT NULL,           -- name#version
  artifacts     integer NOT NULL,
  bytes         bigint NOT NULL,           -- of all bodies
  installed     timestamptz NOT NULL DEFAULT now(),
  UNIQUE (name, version)
);

CREATE TABLE definition.artifact (
  id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  package integer NOT NULL REFERENCES definition.package,
  type    smallint NOT NULL,
  url     text COLLATE "C" NOT NULL,
  version text COLLATE "C" NOT NULL,       -- '' for none
  body    bytea NOT NULL,                  -- compact JSON without narrative
  UNIQUE (package, type, url, version)
);

-- Grows with every installation, so that running servers see that there was one.
CREATE TABLE definition.revision (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  n   bigint NOT NULL
);
INSERT INTO definition.revision (n) VALUES (0);

GRANT USAGE ON SCHEMA definition TO cloister_app, cloister_notes;
GRANT SELECT ON ALL TABLES IN SCHEMA definition TO cloister_app, cloister_notes;

-- +goose Down
DROP SCHEMA definition CASCADE;
