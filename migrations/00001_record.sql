-- +goose Up

-- Roles belong to the whole cluster, so they may be there already.
-- +goose StatementBegin
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'cloister_app') THEN
    CREATE ROLE cloister_app NOLOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'cloister_notes') THEN
    CREATE ROLE cloister_notes NOLOGIN;
  END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
  NULL; -- another database of this cluster migrates at the same moment
END
$$;
-- +goose StatementEnd

-- Whoever migrates may serve; any other login that serves is granted both roles by hand.
GRANT cloister_app, cloister_notes TO CURRENT_USER;

CREATE SCHEMA record;

CREATE TABLE record.tenant (
  id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  slug text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  name text NOT NULL
);

-- Every distinct label set that was ever stored; the policy is decided per class, never per row.
CREATE TABLE record.label_class (
  id     smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  labels integer NOT NULL UNIQUE CHECK (labels >= 0)
);

-- Internal row numbers, drawn in blocks. They never leave the server.
CREATE SEQUENCE record.pk INCREMENT BY 256;

-- The current version of every resource, with the columns that restrict who sees it.
CREATE TABLE record.resource (
  tenant      integer NOT NULL,
  type        smallint NOT NULL,
  id          text COLLATE "C" NOT NULL,
  -- A caller who creates an id that a resource hidden from her bears already
  -- gets a row of her own: an id in use must not be told from a free one.
  shadow      smallint NOT NULL DEFAULT 0,
  pk          bigint NOT NULL,
  version     integer NOT NULL,
  updated     timestamptz NOT NULL,
  deleted     boolean NOT NULL DEFAULT false,
  label_class smallint NOT NULL,
  patient     text COLLATE "C",            -- the first patient in whose compartment it is
  co_patients text[] COLLATE "C",          -- the others, if any
  programs    text[] COLLATE "C",          -- Organizations: the Part 2 programs that it comes from
  originator  text COLLATE "C",            -- fhirUser of who created it
  tokens      bigint[],
  refs        bigint[],
  body        jsonb,
  PRIMARY KEY (tenant, type, id, shadow),
  CHECK (deleted = (body IS NULL))
);
CREATE UNIQUE INDEX resource_pk ON record.resource (pk);
CREATE INDEX resource_updated ON record.resource (tenant, type, updated DESC, id DESC) INCLUDE (label_class) WHERE NOT deleted;
CREATE INDEX resource_patient ON record.resource (tenant, type, patient, updated DESC, id DESC) INCLUDE (label_class) WHERE NOT deleted;
CREATE INDEX resource_tokens ON record.resource USING gin (tokens) WITH (fastupdate = off);
CREATE INDEX resource_refs ON record.resource USING gin (refs) WITH (fastupdate = off);
ALTER TABLE record.resource ALTER COLUMN tokens SET STATISTICS 1000;
ALTER TABLE record.resource ALTER COLUMN refs SET STATISTICS 1000;

-- Superseded versions, each with the restricting columns that it had.
CREATE TABLE record.resource_history (
  tenant      integer NOT NULL,
  type        smallint NOT NULL,
  id          text COLLATE "C" NOT NULL,
  pk          bigint NOT NULL,
  version     integer NOT NULL,
  updated     timestamptz NOT NULL,
  deleted     boolean NOT NULL,
  label_class smallint NOT NULL,
  patient     text COLLATE "C",
  co_patients text[] COLLATE "C",
  programs    text[] COLLATE "C",
  originator  text COLLATE "C",
  body        jsonb,
  PRIMARY KEY (tenant, pk, version)
);

CREATE TABLE record.resource_date (
  tenant integer NOT NULL,
  type   smallint NOT NULL,
  param  text COLLATE "C" NOT NULL,
  pk     bigint NOT NULL,
  lo     timestamptz NOT NULL,
  hi     timestamptz NOT NULL
);
CREATE INDEX resource_date_row ON record.resource_date (tenant, pk);
CREATE INDEX resource_date_lo ON record.resource_date (tenant, type, param, lo, hi, pk);

CREATE TABLE record.resource_string (
  tenant integer NOT NULL,
  type   smallint NOT NULL,
  param  text COLLATE "C" NOT NULL,
  pk     bigint NOT NULL,
  text   text COLLATE "C" NOT NULL,
  exact  text COLLATE "C" NOT NULL
);
CREATE INDEX resource_string_row ON record.resource_string (tenant, pk);
CREATE INDEX resource_string_text ON record.resource_string (tenant, type, param, text, pk);

-- Who stands in which relation to a patient: kind 1 treating (CareTeam), 2 proxy (RelatedPerson).
CREATE TABLE record.relation (
  tenant  integer NOT NULL,
  kind    smallint NOT NULL,
  member  text COLLATE "C" NOT NULL,
  patient text COLLATE "C" NOT NULL,
  starts  timestamptz,
  ends    timestamptz,
  source  bigint NOT NULL                  -- pk of the resource that says so
);
CREATE INDEX relation_member ON record.relation (tenant, kind, member, patient);
CREATE INDEX relation_source ON record.relation (tenant, source);

-- What Consents permit or forbid, one row per program, recipient.
CREATE TABLE record.consent_grant (
  tenant    integer NOT NULL,
  kind      text NOT NULL,
  effect    text NOT NULL CHECK (effect IN ('permit', 'deny')),
  patient   text COLLATE "C" NOT NULL,
  program   text COLLATE "C" NOT NULL,   -- '' in a deny: every program
  recipient text COLLATE "C" NOT NULL,
  purposes  text[] NOT NULL,
  starts    timestamptz,
  ends      timestamptz,
  source    bigint NOT NULL                -- pk of the Consent
);
CREATE INDEX consent_grant_patient ON record.consent_grant (tenant, patient, program, recipient);
CREATE INDEX consent_grant_source ON record.consent_grant (tenant, source);

-- What an import has finished, so that a repeated import goes on where it was stopped.
CREATE TABLE record.import_item (
  tenant integer NOT NULL,
  digest bytea NOT NULL,                   -- SHA-256 of the item's bytes
  PRIMARY KEY (tenant, digest)
);

GRANT USAGE ON SCHEMA record TO cloister_app, cloister_notes;
GRANT SELECT ON ALL TABLES IN SCHEMA record TO cloister_app, cloister_notes;
GRANT INSERT, UPDATE ON record.resource TO cloister_app, cloister_notes;
GRANT INSERT ON record.tenant, record.label_class, record.resource_history, record.import_item TO cloister_app, cloister_notes;
GRANT INSERT, DELETE ON record.resource_date, record.resource_string, record.relation, record.consent_grant TO cloister_app, cloister_notes;
GRANT USAGE ON SEQUENCE record.pk TO cloister_app, cloister_notes;

-- +goose Down

-- The roles stay: other databases of the cluster may use them.
DROP SCHEMA record CASCADE;
