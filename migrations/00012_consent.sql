-- +goose Up

-- Every provision of a Consent that is in force or will be is a row, with its own
-- criteria; it matches where they do and those of its ancestors. What was kept
-- until now were whole consents without exceptions: each becomes a provision of its own.
ALTER TABLE record.consent_grant RENAME TO consent_grant_before;
DROP INDEX record.consent_grant_patient, record.consent_grant_source;

CREATE TABLE record.consent_grant (
  tenant       integer NOT NULL,
  patient      text COLLATE "C" NOT NULL,
  source       bigint NOT NULL,            -- pk of the Consent
  consent      text COLLATE "C" NOT NULL,  -- its id
  node         smallint NOT NULL,          -- number in the Consent; the root is 0
  ancestors    smallint[] NOT NULL,        -- from the root to the parent
  about        smallint NOT NULL,          -- the kinds of consent that it permits or denies, as bits (consent.Kinds)
  permits      boolean NOT NULL,           -- else it denies
  sure         boolean NOT NULL,           -- it was understood, and is a consent in law: else it permits nothing
  starts       timestamptz,
  ends         timestamptz,
  -- Criteria; NULL: any.
  programs     text[] COLLATE "C",         -- '' is a record of no program
  recipients   text[] COLLATE "C",
  purposes     text[] COLLATE "C",
  types        smallint[],
  documents    bigint[],                   -- hashes of types of documents
  label_any    integer NOT NULL,           -- some of these labels; 0: any
  label_within integer NOT NULL,           -- and, for the record as a whole, none but these
  codes        bigint[],                   -- hashes of codings
  data_starts  timestamptz,
  data_ends    timestamptz,
  by_data      boolean NOT NULL,           -- one of the four that follow has to match
  instances    bigint[],                   -- these resources, as resource.self
  related      bigint[],                   -- what these refer to
  dependents   bigint[],                   -- what refers to these
  authors      text[] COLLATE "C",         -- what these created
  authored     bigint[],                   -- what refers to these, perhaps as its authors
  PRIMARY KEY (tenant, patient, source, node)
);
CREATE INDEX consent_grant_source ON record.consent_grant (tenant, source);
-- Restrictions (bits 256, 512) are few, and every statement asks for them.
CREATE INDEX consent_grant_restriction ON record.consent_grant (tenant, patient) WHERE about & 768 <> 0;
CREATE INDEX consent_grant_related ON record.consent_grant (tenant) WHERE related IS NOT NULL;

INSERT INTO record.consent_grant (tenant, patient, source, consent, node, ancestors, about, permits, sure, starts, ends, programs, recipients, purposes, label_any, label_within, by_data)
SELECT tenant, patient, source, COALESCE((SELECT r.id FROM record.resource r WHERE r.pk = source), ''), row_number() OVER (PARTITION BY tenant, source) - 1, '{}',
  CASE WHEN effect = 'deny' THEN 39 WHEN kind = 'part2-tpo' THEN 1 ELSE 2 END, effect = 'permit', true, starts, ends,
  CASE WHEN program <> '' THEN ARRAY[program] END, CASE WHEN recipient <> '*' THEN ARRAY[recipient] END, purposes, 0, 2147483647, false
FROM record.consent_grant_before;
DROP TABLE record.consent_grant_before;

-- What a resource that some Consent means with "related" refers to.
CREATE TABLE record.consent_related (
  tenant   integer NOT NULL,
  instance bigint NOT NULL,
  target   bigint NOT NULL,
  PRIMARY KEY (tenant, target, instance)
);
CREATE INDEX consent_related_instance ON record.consent_related (tenant, instance);

-- Under which further names one is a recipient: the organization of which one's
-- own is a part, the team, role or group that one is a member of, an identifier.
CREATE TABLE record.recipient_name (
  tenant integer NOT NULL,
  member text COLLATE "C" NOT NULL,
  name   text COLLATE "C" NOT NULL,
  starts timestamptz,
  ends   timestamptz,
  source bigint NOT NULL                   -- pk of the resource that says so
);
CREATE INDEX recipient_name_member ON record.recipient_name (tenant, member);
CREATE INDEX recipient_name_source ON record.recipient_name (tenant, source);

-- All names of a caller at one moment, from those that the token gives.
-- +goose StatementBegin
CREATE FUNCTION record.recipients(practice integer, names text[], at timestamptz) RETURNS text[] LANGUAGE sql STABLE STRICT PARALLEL SAFE AS $b$
  WITH RECURSIVE known(name) AS (
    SELECT unnest(names) COLLATE "C"
    UNION
    SELECT r.name FROM known k JOIN record.recipient_name r ON r.tenant = practice AND r.member = k.name
    WHERE (r.starts IS NULL OR r.starts <= at) AND (r.ends IS NULL OR r.ends > at)
  )
  SELECT COALESCE(array_agg(name), '{}') FROM known
$b$;
-- +goose StatementEnd

-- codes are hashes of all codings of the resource. What a superseded version is
-- decided by stays with it.
ALTER TABLE record.resource ADD codes bigint[];
ALTER TABLE notes.resource ADD codes bigint[];
ALTER TABLE record.resource_history ADD self bigint, ADD at_lo timestamptz, ADD at_hi timestamptz, ADD refs bigint[], ADD codes bigint[];
ALTER TABLE notes.resource_history ADD self bigint, ADD at_lo timestamptz, ADD at_hi timestamptz, ADD refs bigint[], ADD codes bigint[];

-- On which Consents the disclosure of each entity rests, as "Consent/a Consent/b"; '' for none.
ALTER TABLE audit.event ADD consents text[] NOT NULL DEFAULT '{}';

GRANT SELECT, INSERT, DELETE ON record.consent_grant, record.consent_related, record.recipient_name TO cloister_app, cloister_notes;

-- +goose Down
ALTER TABLE audit.event DROP consents;
ALTER TABLE record.resource DROP codes;
ALTER TABLE notes.resource DROP codes;
ALTER TABLE record.resource_history DROP self, DROP at_lo, DROP at_hi, DROP refs, DROP codes;
ALTER TABLE notes.resource_history DROP self, DROP at_lo, DROP at_hi, DROP refs, DROP codes;
DROP FUNCTION record.recipients(integer, text[], timestamptz);
DROP TABLE record.recipient_name, record.consent_related, record.consent_grant;
CREATE TABLE record.consent_grant (
  tenant    integer NOT NULL,
  kind      text NOT NULL,
  effect    text NOT NULL CHECK (effect IN ('permit', 'deny')),
  patient   text COLLATE "C" NOT NULL,
  program   text COLLATE "C" NOT NULL,
  recipient text COLLATE "C" NOT NULL,
  purposes  text[] NOT NULL,
  starts    timestamptz,
  ends      timestamptz,
  source    bigint NOT NULL
);
CREATE INDEX consent_grant_patient ON record.consent_grant (tenant, patient, program, recipient);
CREATE INDEX consent_grant_source ON record.consent_grant (tenant, source);
GRANT SELECT, INSERT, DELETE ON record.consent_grant TO cloister_app, cloister_notes;
