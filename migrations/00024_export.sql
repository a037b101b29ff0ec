-- +goose Up

-- Bulk exports (Bulk Data Access 2.0): the jobs, what they have written, and where that is.
CREATE SCHEMA export;

-- Counts the turns of the workers: whoever holds the newest turn of a job may go on with it.
CREATE SEQUENCE export.turn;

CREATE TABLE export.job (
  id          uuid PRIMARY KEY,
  tenant      integer NOT NULL,
  owner       bytea NOT NULL CHECK (octet_length(owner) = 32), -- digest of who sent it
  sealed      bytea NOT NULL,               -- principal and request, under the job's key
  kek         text NOT NULL,                -- which key wrapped it
  wrapped     bytea NOT NULL,               -- the key of the job; without it the files do not open
  policy      text NOT NULL,                -- version at the start
  transaction timestamptz NOT NULL,         -- transactionTime of the manifest
  state       text NOT NULL CHECK (state IN ('accepted', 'running', 'done', 'failed')),
  reason      text NOT NULL DEFAULT '' CHECK (reason IN ('', 'denied', 'internal')),
  step        integer NOT NULL DEFAULT 0,   -- of the plan that the request makes
  after       jsonb,                        -- where the next page of the step starts
  lines       bigint NOT NULL DEFAULT 0,
  explained   text[] NOT NULL DEFAULT '{}', -- ids of Consents
  attempts    integer NOT NULL DEFAULT 0,   -- turns since the last that came to something
  turn        bigint,
  lease       timestamptz NOT NULL,         -- until when nobody else may take it
  created     timestamptz NOT NULL,
  expires     timestamptz NOT NULL
);
CREATE INDEX job_owner ON export.job (tenant, owner);
CREATE INDEX job_lease ON export.job (lease) WHERE state IN ('accepted', 'running');
CREATE INDEX job_expires ON export.job (expires);

-- What has been written, in the order in which it was. Parts of one file follow each other in it.
CREATE TABLE export.part (
  job      uuid NOT NULL REFERENCES export.job ON DELETE CASCADE,
  number   integer NOT NULL,
  file     integer NOT NULL,
  kind     text NOT NULL CHECK (kind IN ('output', 'deleted', 'error')),
  type     text NOT NULL,
  name     uuid NOT NULL UNIQUE,            -- in the sink
  lines    integer NOT NULL,
  bytes    bigint NOT NULL,                 -- before compression
  sha256   bytea NOT NULL,                  -- of the lines
  noticed  boolean NOT NULL,                -- some of it is disclosed with a consent under part 2
  ids      text[] NOT NULL,                 -- of the resource in each line
  versions integer[] NOT NULL,
  rows     bigint[] NOT NULL,               -- of the view that is in each line
  PRIMARY KEY (job, number)
);

-- What is in the sink and in no part: it is being written, or it is to be removed.
CREATE TABLE export.object (
  name   uuid PRIMARY KEY,
  until  timestamptz NOT NULL,              -- when nobody writes it any more
  doomed boolean NOT NULL DEFAULT false
);
CREATE INDEX object_until ON export.object (until);

GRANT USAGE ON SCHEMA export TO cloister_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON export.job, export.object TO cloister_app;
GRANT SELECT, INSERT, DELETE ON export.part TO cloister_app;
GRANT USAGE ON SEQUENCE export.turn TO cloister_app;

-- +goose Down
DROP SCHEMA export CASCADE;
