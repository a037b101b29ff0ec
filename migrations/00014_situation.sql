-- +goose Up

-- Kind 1 (treating) also comes from Encounters, Appointments, EpisodesOfCare and
-- ServiceRequests. A member may be a PractitionerRole or a CareTeam: such a row
-- is nobody's, and there is one more for each Practitioner whom it stands for,
-- with the pk of the role or team as its source and that of the first row in via.
ALTER TABLE record.relation
  ADD via   bigint,
  -- A parent stands for a patient until she comes of age (45 CFR 164.502(g)(3)):
  -- 1, and ends is the earlier of that moment and of term. An executor stands for
  -- her once she has died (g)(4): 2, and starts is the later of that and of since.
  ADD bound smallint NOT NULL DEFAULT 0,
  ADD since timestamptz,
  ADD term  timestamptz;
CREATE INDEX relation_via ON record.relation (tenant, via) WHERE via IS NOT NULL;
CREATE INDEX relation_bound ON record.relation (tenant, patient) WHERE bound <> 0;
CREATE INDEX relation_ends ON record.relation (ends) WHERE ends IS NOT NULL;
GRANT UPDATE (starts, ends) ON record.relation TO cloister_app, cloister_notes;

-- Which Practitioners a PractitionerRole or a CareTeam stands for.
CREATE TABLE record.membership (
  tenant  integer NOT NULL,
  whole   text COLLATE "C" NOT NULL,
  member  text COLLATE "C" NOT NULL,
  patient text COLLATE "C",                -- of a team that is one patient's
  starts  timestamptz,
  ends    timestamptz,
  source  bigint NOT NULL
);
CREATE INDEX membership_whole ON record.membership (tenant, whole);
CREATE INDEX membership_source ON record.membership (tenant, source);

-- Who supervises whom.
CREATE TABLE record.supervision (
  tenant     integer NOT NULL,
  supervisor text COLLATE "C" NOT NULL,
  supervisee text COLLATE "C" NOT NULL,
  starts     timestamptz,
  ends       timestamptz,
  source     bigint NOT NULL
);
CREATE INDEX supervision_supervisor ON record.supervision (tenant, supervisor, supervisee) INCLUDE (starts, ends);
CREATE INDEX supervision_source ON record.supervision (tenant, source);

-- Which organizations serve a Part 2 program under a written agreement (42 CFR 2.11, 2.12(c)(4)).
CREATE TABLE record.agreement (
  tenant       integer NOT NULL,
  program      text COLLATE "C" NOT NULL,
  organization text COLLATE "C" NOT NULL,
  starts       timestamptz,
  ends         timestamptz,
  source       bigint NOT NULL
);
CREATE INDEX agreement_program ON record.agreement (tenant, program, organization);
CREATE INDEX agreement_source ON record.agreement (tenant, source);

GRANT SELECT, INSERT, DELETE ON record.membership, record.supervision, record.agreement TO cloister_app, cloister_notes;

-- Declared emergencies, with what 42 CFR 2.51(c) has documented. Rows are added;
-- all that may change is that one ends earlier.
CREATE TABLE record.emergency (
  tenant   integer NOT NULL,
  id       uuid NOT NULL,
  member   text COLLATE "C" NOT NULL,      -- fhirUser of who declared it, who receives
  subject  text NOT NULL,                  -- issuer and subject of the token
  patient  text COLLATE "C" NOT NULL,
  purpose  text NOT NULL,
  reason   text NOT NULL,                  -- code of v3-ActReason
  nature   text NOT NULL,
  recipient text NOT NULL,                 -- name of the medical personnel
  facility text NOT NULL,                  -- and its affiliation
  discloser text NOT NULL,
  starts   timestamptz NOT NULL,
  ends     timestamptz NOT NULL,
  PRIMARY KEY (tenant, id)
);
CREATE INDEX emergency_member ON record.emergency (tenant, member, patient);
GRANT SELECT, INSERT ON record.emergency TO cloister_app, cloister_notes;
GRANT UPDATE (ends) ON record.emergency TO cloister_app, cloister_notes;

-- Exceptions of the law that a privacy officer has documented. Rows are added;
-- all that may change is that one ends earlier.
CREATE TABLE record.exception (
  tenant        integer NOT NULL,
  id            uuid NOT NULL,
  kind          text NOT NULL,
  purposes      text[] NOT NULL,
  recipient     text COLLATE "C" NOT NULL, -- Practitioner/x or Organization/x
  patient       text COLLATE "C",
  program       text COLLATE "C",
  originator    text COLLATE "C",
  types         smallint[],
  records       text[] COLLATE "C",        -- type code/id
  starts        timestamptz NOT NULL,
  ends          timestamptz NOT NULL,
  documentation jsonb NOT NULL,
  documented_by text NOT NULL,
  recorded      timestamptz NOT NULL,
  PRIMARY KEY (tenant, id),
  CHECK (patient IS NOT NULL OR program IS NOT NULL OR originator IS NOT NULL)
);
CREATE INDEX exception_recipient ON record.exception (tenant, recipient);
GRANT SELECT, INSERT ON record.exception TO cloister_app, cloister_notes;
GRANT UPDATE (ends) ON record.exception TO cloister_app, cloister_notes;

-- Under which declared emergency each entity was disclosed, '' for none.
ALTER TABLE audit.event ADD sessions text[] NOT NULL DEFAULT '{}';

-- +goose Down
ALTER TABLE audit.event DROP sessions;
DROP TABLE record.exception, record.emergency, record.agreement, record.supervision, record.membership;
DELETE FROM record.relation WHERE via IS NOT NULL;
REVOKE UPDATE ON record.relation FROM cloister_app, cloister_notes;
DROP INDEX record.relation_ends, record.relation_bound, record.relation_via;
ALTER TABLE record.relation DROP via, DROP bound, DROP since, DROP term;
