-- +goose Up

-- The signatures that this server made of Consents, beside the Provenances that carry
-- them. A Consent that has any permits something only while the last of them covers what it says:
-- digest is that of the canonical form without narrative and meta (codec.Canonicalization), in
-- the version that the signature made.
CREATE TABLE record.consent_signature (
  tenant  integer NOT NULL,
  source  bigint NOT NULL,                 -- pk of the Consent
  version integer NOT NULL,                -- of the Consent, that it made
  role    text NOT NULL,                   -- patient, parent, guardian, executor or witness
  signer  text COLLATE "C" NOT NULL,       -- fhirUser of who signed
  subject text NOT NULL,                   -- issuer and subject of the token
  at      timestamptz NOT NULL,
  digest  bytea NOT NULL,                  -- SHA-256
  -- It was superseded by a version that is not active and not what was signed, or by
  -- a first signature of other content: it never covers anything again.
  ended   boolean NOT NULL DEFAULT false,
  PRIMARY KEY (tenant, source, version)
);
GRANT SELECT, INSERT ON record.consent_signature TO cloister_app, cloister_notes;
GRANT UPDATE (ended) ON record.consent_signature TO cloister_app, cloister_notes;

-- +goose Down
DROP TABLE record.consent_signature;
