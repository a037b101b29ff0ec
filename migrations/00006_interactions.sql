-- +goose Up

-- What a version came to be by: POST, or PUT to an id of the client's (history).
ALTER TABLE record.resource ADD COLUMN posted boolean NOT NULL DEFAULT false;
ALTER TABLE record.resource_history ADD COLUMN posted boolean NOT NULL DEFAULT false;
ALTER TABLE notes.resource ADD COLUMN posted boolean NOT NULL DEFAULT false;
ALTER TABLE notes.resource_history ADD COLUMN posted boolean NOT NULL DEFAULT false;

-- The history of a type: current versions go by resource_updated, the others by these.
CREATE INDEX resource_tombstones ON record.resource (tenant, type, updated DESC, id DESC) WHERE deleted;
CREATE INDEX resource_tombstones ON notes.resource (tenant, type, updated DESC, id DESC) WHERE deleted;
CREATE INDEX resource_history_updated ON record.resource_history (tenant, type, updated DESC, id DESC);
CREATE INDEX resource_history_updated ON notes.resource_history (tenant, type, updated DESC, id DESC);

-- Requests that their clients may repeat: who asked what under which key, as
-- digests, and once the change is stored, which versions it made.
CREATE TABLE record.idempotency (
  tenant   integer NOT NULL,
  caller   bytea NOT NULL,
  key      bytea NOT NULL,
  entry    integer NOT NULL,               -- of a batch, from 1; 0 is the whole request
  request  bytea NOT NULL,
  attempt  uuid NOT NULL,
  lease    timestamptz NOT NULL,           -- until when the attempt may go on
  expires  timestamptz NOT NULL,
  receipts jsonb,                          -- NULL: under way
  PRIMARY KEY (tenant, caller, key, entry)
);
CREATE INDEX idempotency_expires ON record.idempotency (expires);
GRANT SELECT, INSERT, UPDATE, DELETE ON record.idempotency TO cloister_app, cloister_notes;

-- Requests whose answers are fetched later (Prefer: respond-async).
CREATE TABLE record.job (
  tenant  integer NOT NULL,
  caller  bytea NOT NULL,
  id      text COLLATE "C" NOT NULL,
  request bytea NOT NULL,                  -- sealed by the server
  ready   boolean NOT NULL,
  failed  boolean NOT NULL,
  lease   timestamptz NOT NULL,            -- until when its worker may go on
  worker  uuid,
  created timestamptz NOT NULL,
  expires timestamptz NOT NULL,
  PRIMARY KEY (tenant, caller, id)
);
CREATE INDEX job_expires ON record.job (expires);
GRANT SELECT, INSERT, UPDATE, DELETE ON record.job TO cloister_app, cloister_notes;

-- +goose Down
DROP TABLE record.job;
DROP TABLE record.idempotency;
DROP INDEX notes.resource_history_updated;
DROP INDEX record.resource_history_updated;
DROP INDEX notes.resource_tombstones;
DROP INDEX record.resource_tombstones;
ALTER TABLE notes.resource_history DROP COLUMN posted;
ALTER TABLE notes.resource DROP COLUMN posted;
ALTER TABLE record.resource_history DROP COLUMN posted;
ALTER TABLE record.resource DROP COLUMN posted;
