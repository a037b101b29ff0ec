-- +goose Up

-- One row per access. Rows are only ever added: no role of the server may change or remove one.
CREATE SCHEMA audit;

CREATE TABLE audit.event (
  tenant      integer NOT NULL,
  at          timestamptz NOT NULL,
  id          uuid NOT NULL,
  outcome     text NOT NULL,
  interaction text NOT NULL,
  type        text NOT NULL,
  subject     text NOT NULL,
  client      text NOT NULL,
  fhir_user   text NOT NULL,
  roles       text[] NOT NULL,
  purpose     text NOT NULL,
  policy      text NOT NULL,
  request     text NOT NULL,
  entities    text[] NOT NULL,             -- Type/id/_history/version
  labels      integer[] NOT NULL,          -- of each entity
  patients    text[] NOT NULL,             -- of each entity, '' for none
  PRIMARY KEY (tenant, at, id)
);
CREATE INDEX event_patients ON audit.event USING gin (patients);

GRANT USAGE ON SCHEMA audit TO cloister_app, cloister_notes;
GRANT SELECT, INSERT ON audit.event TO cloister_app, cloister_notes;

-- +goose Down
DROP SCHEMA audit CASCADE;
