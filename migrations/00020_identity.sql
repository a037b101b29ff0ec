-- +goose Up

-- Who people are and how they prove it. The role that reads and writes this schema reaches
-- no record, and the roles that reach records reach nothing here but what they add to the audit trail.
-- +goose StatementBegin
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'cloister_identity') THEN
    CREATE ROLE cloister_identity NOLOGIN;
  END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
  NULL; -- another database of this cluster migrates at the same moment
END
$$;
-- +goose StatementEnd
GRANT cloister_identity TO CURRENT_USER;

CREATE SCHEMA identity;

CREATE TABLE identity.account (
  id        uuid PRIMARY KEY,
  email     text NOT NULL UNIQUE CHECK (email = lower(email) AND email LIKE '_%@_%' AND length(email) <= 254),
  name      text NOT NULL CHECK (length(name) BETWEEN 1 AND 254),
  disabled  boolean NOT NULL DEFAULT false,
  password  text NOT NULL DEFAULT '' CHECK (password = '' OR password LIKE '$argon2id$%'),
  changed   timestamptz,                     -- the password
  totp      bytea,                           -- sealed
  totp_step bigint NOT NULL DEFAULT 0,       -- of the last code that was used (RFC 6238)
  created   timestamptz NOT NULL
);

-- What an account is in a practice. practice repeats the slug, since the role cannot read record.tenant; the
-- key makes sure that it is the right one.
ALTER TABLE record.tenant ADD CONSTRAINT tenant_slug_id UNIQUE (id, slug);
CREATE TABLE identity.membership (
  account       uuid NOT NULL REFERENCES identity.account ON DELETE CASCADE,
  tenant        integer NOT NULL,
  practice      text NOT NULL,
  fhir_user     text NOT NULL CHECK (fhir_user = '' OR fhir_user ~ '^(Practitioner|Patient|RelatedPerson)/[A-Za-z0-9.-]{1,64}$'),
  roles         text[] NOT NULL CHECK (cardinality(roles) BETWEEN 1 AND 64 AND NOT roles @> ARRAY['operator']),
  organizations text[] NOT NULL DEFAULT '{}',
  PRIMARY KEY (account, tenant, fhir_user),
  FOREIGN KEY (tenant, practice) REFERENCES record.tenant (id, slug) ON UPDATE CASCADE,
  -- A patient is no member of staff by the same membership.
  CHECK (fhir_user NOT SIMILAR TO '(Patient|RelatedPerson)/%' OR roles <@ ARRAY['patient', 'proxy'])
);
CREATE INDEX membership_tenant ON identity.membership (tenant);

CREATE TABLE identity.external (
  issuer  text NOT NULL,
  subject text NOT NULL,
  account uuid NOT NULL REFERENCES identity.account ON DELETE CASCADE,
  linked  timestamptz NOT NULL,
  PRIMARY KEY (issuer, subject)
);
CREATE INDEX external_account ON identity.external (account);

CREATE TABLE identity.passkey (
  id      bytea PRIMARY KEY CHECK (octet_length(id) BETWEEN 1 AND 1023),
  account uuid NOT NULL REFERENCES identity.account ON DELETE CASCADE,
  name    text NOT NULL,
  count   bigint NOT NULL CHECK (count BETWEEN 0 AND 4294967295),
  data    bytea NOT NULL,                    -- sealed
  created timestamptz NOT NULL,
  used    timestamptz
);
CREATE INDEX passkey_account ON identity.passkey (account);

CREATE TABLE identity.recovery_code (
  account uuid NOT NULL REFERENCES identity.account ON DELETE CASCADE,
  hash    bytea NOT NULL CHECK (octet_length(hash) = 32),
  PRIMARY KEY (account, hash)
);

-- Steps that were begun: challenges, ceremonies, invitations, recoveries. Of their secrets only the hash is kept.
CREATE TABLE identity.pending (
  hash    bytea NOT NULL CHECK (octet_length(hash) = 32),
  purpose text NOT NULL,
  account uuid REFERENCES identity.account ON DELETE CASCADE,
  email   text NOT NULL DEFAULT '',
  tenant  integer NOT NULL DEFAULT 0,
  data    bytea NOT NULL DEFAULT '',
  tries   integer NOT NULL DEFAULT 0,
  expires timestamptz NOT NULL,
  PRIMARY KEY (hash, purpose)
);
CREATE INDEX pending_account ON identity.pending (account, purpose);
CREATE INDEX pending_email ON identity.pending (email) WHERE email <> '';
CREATE INDEX pending_expires ON identity.pending (expires);

CREATE TABLE identity.session (
  id        uuid PRIMARY KEY,
  hash      bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
  account   uuid NOT NULL REFERENCES identity.account ON DELETE CASCADE,
  signed_in timestamptz NOT NULL,
  methods   text[] NOT NULL,
  provider  text NOT NULL DEFAULT '',
  subject   text NOT NULL DEFAULT '',        -- at the provider
  sid       text NOT NULL DEFAULT '',        -- of the provider's session
  practices text[],                          -- that the provider speaks for
  idle      timestamptz NOT NULL,
  absolute  timestamptz NOT NULL,
  client    text NOT NULL,
  CHECK (idle <= absolute),
  CHECK ((provider = '') = (practices IS NULL))
);
CREATE INDEX session_account ON identity.session (account);
CREATE INDEX session_provider ON identity.session (provider, subject) WHERE provider <> '';
CREATE INDEX session_absolute ON identity.session (absolute);

-- Nobody who is disabled has a session, whatever the order in which two transactions arrive.
-- +goose StatementBegin
CREATE FUNCTION identity.session_of_enabled() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  PERFORM FROM identity.account a WHERE a.id = NEW.account AND NOT a.disabled FOR SHARE;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  RETURN NEW;
END
$$;
CREATE FUNCTION identity.disabled_ends_sessions() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  DELETE FROM identity.session s WHERE s.account = NEW.id;
  DELETE FROM identity.pending p WHERE p.account = NEW.id;
  RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER session_of_enabled BEFORE INSERT ON identity.session FOR EACH ROW EXECUTE FUNCTION identity.session_of_enabled();
CREATE TRIGGER disabled_ends_sessions AFTER UPDATE OF disabled ON identity.account FOR EACH ROW WHEN (NEW.disabled AND NOT OLD.disabled) EXECUTE FUNCTION identity.disabled_ends_sessions();

-- How often something was tried, by a keyed hash of what and from where.
CREATE TABLE identity.attempt (
  key   bytea PRIMARY KEY,
  count integer NOT NULL CHECK (count >= 0),
  began timestamptz NOT NULL,
  next  timestamptz NOT NULL,
  until timestamptz NOT NULL                 -- the count begins anew
);
CREATE INDEX attempt_until ON identity.attempt (until);

-- Browsers that have shown that they belong to the owner of an account.
CREATE TABLE identity.device (
  account uuid NOT NULL REFERENCES identity.account ON DELETE CASCADE,
  hash    bytea NOT NULL CHECK (octet_length(hash) = 32),
  expires timestamptz NOT NULL,
  PRIMARY KEY (account, hash)
);
CREATE INDEX device_expires ON identity.device (expires);

-- Accounts that a directory of a practice provides (SCIM, RFC 7643), and its groups.
CREATE TABLE identity.directory (
  tenant   integer PRIMARY KEY REFERENCES record.tenant,
  practice text NOT NULL,
  hash     bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32), -- of the bearer token
  created  timestamptz NOT NULL
);
CREATE TABLE identity.directory_user (
  id            uuid PRIMARY KEY,
  tenant        integer NOT NULL REFERENCES record.tenant,
  account       uuid NOT NULL REFERENCES identity.account ON DELETE CASCADE,
  user_name     text NOT NULL,
  external_id   text NOT NULL DEFAULT '',
  name          text NOT NULL,
  fhir_user     text NOT NULL DEFAULT '' CHECK (fhir_user = '' OR fhir_user ~ '^Practitioner/[A-Za-z0-9.-]{1,64}$'),
  organizations text[] NOT NULL DEFAULT '{}',
  active        boolean NOT NULL,
  created       timestamptz NOT NULL,
  modified      timestamptz NOT NULL,
  UNIQUE (tenant, account)
);
CREATE UNIQUE INDEX directory_user_name ON identity.directory_user (tenant, lower(user_name));
CREATE INDEX directory_user_external ON identity.directory_user (tenant, external_id) WHERE external_id <> '';
CREATE TABLE identity.directory_group (
  id          uuid PRIMARY KEY,
  tenant      integer NOT NULL REFERENCES record.tenant,
  name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
  external_id text NOT NULL DEFAULT '',
  created     timestamptz NOT NULL,
  modified    timestamptz NOT NULL
);
CREATE UNIQUE INDEX directory_group_name ON identity.directory_group (tenant, lower(name));
CREATE TABLE identity.directory_member (
  grp    uuid NOT NULL REFERENCES identity.directory_group ON DELETE CASCADE,
  member uuid NOT NULL REFERENCES identity.directory_user ON DELETE CASCADE,
  PRIMARY KEY (grp, member)
);
CREATE INDEX directory_member_member ON identity.directory_member (member);

GRANT USAGE ON SCHEMA identity TO cloister_identity;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA identity TO cloister_identity;

-- Events that concern no record. Rows are only ever added, as those of audit.event are.
CREATE TABLE audit.security (
  tenant    integer NOT NULL,                -- 0: of no practice
  at        timestamptz NOT NULL,
  id        uuid NOT NULL,
  kind      text NOT NULL,
  outcome   text NOT NULL,
  reason    text NOT NULL,
  account   text NOT NULL,
  fhir_user text NOT NULL,
  actor     text NOT NULL,                   -- who did it, where it was somebody else
  client    text NOT NULL,
  session   text NOT NULL,
  methods   text[] NOT NULL,
  address   text NOT NULL,
  PRIMARY KEY (tenant, at, id)
);
CREATE INDEX security_account ON audit.security (account, at) WHERE account <> '';
GRANT SELECT, INSERT ON audit.security TO cloister_app;

-- +goose Down
DROP TABLE audit.security;
DROP SCHEMA identity CASCADE;
ALTER TABLE record.tenant DROP CONSTRAINT tenant_slug_id;
