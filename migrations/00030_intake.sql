-- +goose Up

-- Bulk imports: the jobs, what their inputs were cut into, and what became of it.
CREATE SCHEMA intake;

-- Counts the turns of the workers: whoever holds the newest turn of a job may go on with it.
CREATE SEQUENCE intake.turn;

CREATE TABLE intake.job (
  id       uuid PRIMARY KEY,
  tenant   integer NOT NULL,
  owner    bytea NOT NULL CHECK (octet_length(owner) = 32), -- digest of who sent it
  sealed   bytea NOT NULL,                  -- principal and request, under the job's key
  kek      text NOT NULL,                   -- which key wrapped it
  wrapped  bytea NOT NULL,                  -- the key of the job; without it the inputs do not open
  state    text NOT NULL CHECK (state IN ('accepted', 'running', 'done', 'failed')),
  reason   text NOT NULL DEFAULT '' CHECK (reason IN ('', 'denied', 'internal')),
  input    integer NOT NULL DEFAULT 0,      -- inputs that are fetched
  fetched  bigint NOT NULL DEFAULT 0,       -- bytes of the input that is being fetched, as they came
  fetched_lines integer NOT NULL DEFAULT 0,
  validator text NOT NULL DEFAULT '',       -- of that input: for If-Range
  round    integer NOT NULL DEFAULT 0,      -- over what still waits
  phase    integer NOT NULL DEFAULT 0,      -- 0: chunk by chunk; 1: what waits together; 2: what waits now never comes
  chunk    integer NOT NULL DEFAULT 0,      -- chunks of the round that are done
  progress boolean NOT NULL DEFAULT false,  -- the round has brought something
  lines    bigint NOT NULL DEFAULT 0,       -- that were read
  settled  bigint NOT NULL DEFAULT 0,       -- of which it is known what became of them
  attempts integer NOT NULL DEFAULT 0,      -- turns since the last that came to something
  turn     bigint,
  lease    timestamptz NOT NULL,            -- until when nobody else may take it
  created  timestamptz NOT NULL,
  loading  timestamptz,                     -- since when it loads what was fetched
  finished timestamptz,
  expires  timestamptz NOT NULL
);
CREATE INDEX job_owner ON intake.job (tenant, owner);
CREATE INDEX job_lease ON intake.job (lease) WHERE state IN ('accepted', 'running');
CREATE INDEX job_expires ON intake.job (expires);

-- A piece of an input: what is taken in by one transaction.
CREATE TABLE intake.chunk (
  job     uuid NOT NULL REFERENCES intake.job ON DELETE CASCADE,
  number  integer NOT NULL,
  input   integer NOT NULL,
  first   integer NOT NULL,                 -- number of its first line in the input
  lines   integer NOT NULL,
  name    uuid NOT NULL UNIQUE,             -- of its content, in the sink
  waiting integer[],                        -- its lines that wait for what they refer to; null: none was tried
  PRIMARY KEY (job, number)
);

-- What was counted, and what was found.
CREATE TABLE intake.tally (
  job   uuid NOT NULL REFERENCES intake.job ON DELETE CASCADE,
  input integer NOT NULL,
  type  text NOT NULL,
  what  text NOT NULL,
  n     bigint NOT NULL,
  PRIMARY KEY (job, input, type, what)
);
CREATE TABLE intake.finding (
  job     uuid NOT NULL REFERENCES intake.job ON DELETE CASCADE,
  input   integer NOT NULL,
  id      bigint GENERATED ALWAYS AS IDENTITY,
  lines   integer NOT NULL,
  text    text NOT NULL,                    -- OperationOutcomes, one on each line
  PRIMARY KEY (job, input, id)
);

-- By what others can refer to what a dry run would have stored.
CREATE TABLE intake.brought (
  job  uuid NOT NULL REFERENCES intake.job ON DELETE CASCADE,
  name bytea NOT NULL,                      -- digest
  PRIMARY KEY (job, name)
);

-- What is in the sink and in no chunk: it is being written, or it is to be removed.
CREATE TABLE intake.object (
  name   uuid PRIMARY KEY,
  until  timestamptz NOT NULL,              -- when nobody writes it any more
  doomed boolean NOT NULL DEFAULT false
);
CREATE INDEX object_until ON intake.object (until);

-- A batch moves its job on in the transaction that stores it, whichever role that runs under.
GRANT USAGE ON SCHEMA intake TO cloister_app, cloister_notes;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA intake TO cloister_app;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA intake TO cloister_notes;
GRANT USAGE ON SEQUENCE intake.turn TO cloister_app;

-- +goose Down
DROP SCHEMA intake CASCADE;
