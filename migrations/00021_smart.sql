-- +goose Up

-- Apps that people and services use, and what they were let do.
CREATE TABLE identity.app (
  id         text PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$' AND id <> 'cloister'),
  body       jsonb NOT NULL,
  everywhere boolean NOT NULL DEFAULT false, -- no practice has to approve it
  registered timestamptz NOT NULL,
  withdrawn  timestamptz
);

CREATE TABLE identity.app_approval (
  app         text NOT NULL REFERENCES identity.app ON DELETE CASCADE,
  tenant      integer NOT NULL,
  practice    text NOT NULL,
  approved_by text NOT NULL,
  at          timestamptz NOT NULL,
  PRIMARY KEY (app, tenant),
  FOREIGN KEY (tenant, practice) REFERENCES record.tenant (id, slug) ON UPDATE CASCADE
);

-- What is handed out and comes back once: authorization requests, launch handles, pushed requests.
CREATE TABLE identity.ticket (
  kind  text NOT NULL,
  hash  bytea NOT NULL CHECK (octet_length(hash) = 32),
  body  jsonb NOT NULL,
  until timestamptz NOT NULL,
  PRIMARY KEY (kind, hash)
);
CREATE INDEX ticket_until ON identity.ticket (until);

-- What a user let an app do. It lives until it has ended, or nothing can refresh it any more.
CREATE TABLE identity.app_grant (
  id       uuid PRIMARY KEY,
  app      text NOT NULL REFERENCES identity.app,
  account  uuid NOT NULL REFERENCES identity.account ON DELETE CASCADE,
  session  uuid NOT NULL,                    -- which may be over
  tenant   integer NOT NULL,
  practice text NOT NULL,
  keep     text NOT NULL CHECK (keep IN ('', 'online', 'offline')),
  body     jsonb NOT NULL,
  created  timestamptz NOT NULL,
  until    timestamptz NOT NULL,
  redeemed boolean NOT NULL DEFAULT false,   -- its code was used
  used     timestamptz NOT NULL,
  ended    timestamptz,
  FOREIGN KEY (tenant, practice) REFERENCES record.tenant (id, slug) ON UPDATE CASCADE
);
CREATE INDEX app_grant_account ON identity.app_grant (account) WHERE ended IS NULL;
CREATE INDEX app_grant_session ON identity.app_grant (session) WHERE ended IS NULL AND keep <> 'offline';
CREATE INDEX app_grant_app ON identity.app_grant (app) WHERE ended IS NULL;
CREATE INDEX app_grant_until ON identity.app_grant (until);

CREATE TABLE identity.code (
  hash      bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
  app_grant uuid NOT NULL REFERENCES identity.app_grant ON DELETE CASCADE,
  app       text NOT NULL,
  redirect  text NOT NULL,
  challenge text NOT NULL,
  until     timestamptz NOT NULL,
  used      timestamptz
);
CREATE INDEX code_grant ON identity.code (app_grant);

CREATE TABLE identity.refresh_token (
  hash      bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
  app_grant uuid NOT NULL REFERENCES identity.app_grant ON DELETE CASCADE,
  until     timestamptz NOT NULL,
  used      timestamptz
);
CREATE INDEX refresh_token_grant ON identity.refresh_token (app_grant);
-- A family has one token that can be used, whatever the server thinks.
CREATE UNIQUE INDEX refresh_token_one ON identity.refresh_token (app_grant) WHERE used IS NULL;

-- What ended, for as long as a token of it could be about: grants by id, apps as app:ID, apps in a practice as app:ID/PRACTICE.
CREATE TABLE identity.ended (
  key text PRIMARY KEY,
  at  timestamptz NOT NULL
);
CREATE INDEX ended_at ON identity.ended (at);

-- Assertions that were used (RFC 7523, 3: jti).
CREATE TABLE identity.assertion (
  app   text NOT NULL,
  jti   bytea NOT NULL CHECK (octet_length(jti) = 32),
  until timestamptz NOT NULL,
  PRIMARY KEY (app, jti)
);
CREATE INDEX assertion_until ON identity.assertion (until);

CREATE TABLE identity.signing_key (
  id      text PRIMARY KEY,
  use     text NOT NULL CHECK (use IN ('access', 'id')),
  public  jsonb NOT NULL,
  sealed  bytea NOT NULL,
  created timestamptz NOT NULL,
  starts  timestamptz NOT NULL,
  until   timestamptz
);

-- Grants end with what they stand on, whoever ended that and by whatever way.
-- +goose StatementBegin
CREATE FUNCTION identity.end_of_account() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  WITH gone AS (UPDATE identity.app_grant g SET ended = clock_timestamp() WHERE g.account = OLD.id AND g.ended IS NULL RETURNING g.id)
  INSERT INTO identity.ended (key, at) SELECT id::text, clock_timestamp() FROM gone ON CONFLICT (key) DO NOTHING;
  IF TG_OP = 'DELETE' THEN
    RETURN OLD;
  END IF;
  RETURN NEW;
END
$$;
CREATE FUNCTION identity.end_of_session() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  WITH gone AS (UPDATE identity.app_grant g SET ended = clock_timestamp() WHERE g.session = OLD.id AND g.keep <> 'offline' AND g.ended IS NULL RETURNING g.id)
  INSERT INTO identity.ended (key, at) SELECT id::text, clock_timestamp() FROM gone ON CONFLICT (key) DO NOTHING;
  RETURN OLD;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER end_of_account BEFORE UPDATE OF disabled ON identity.account FOR EACH ROW WHEN (NEW.disabled AND NOT OLD.disabled) EXECUTE FUNCTION identity.end_of_account();
CREATE TRIGGER end_of_deleted_account BEFORE DELETE ON identity.account FOR EACH ROW EXECUTE FUNCTION identity.end_of_account();
CREATE TRIGGER end_of_session BEFORE DELETE ON identity.session FOR EACH ROW EXECUTE FUNCTION identity.end_of_session();

GRANT SELECT, INSERT, UPDATE, DELETE ON identity.app, identity.app_approval, identity.ticket, identity.app_grant, identity.code,
  identity.refresh_token, identity.ended, identity.assertion, identity.signing_key TO cloister_identity;

-- +goose Down
DROP TRIGGER end_of_session ON identity.session;
DROP TRIGGER end_of_deleted_account ON identity.account;
DROP TRIGGER end_of_account ON identity.account;
DROP FUNCTION identity.end_of_session();
DROP FUNCTION identity.end_of_account();
DROP TABLE identity.signing_key, identity.assertion, identity.ended, identity.refresh_token, identity.code, identity.app_grant, identity.ticket, identity.app_approval, identity.app;
