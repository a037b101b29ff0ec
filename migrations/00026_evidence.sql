-- +goose Up

-- The trail belongs to a role of its own. Whoever migrates is a member of it; the login that serves need not be, and
-- then cannot become it: all of its roles add and read, cloister_seal, which chains what was added, too.
-- +goose StatementBegin
DO $$
DECLARE
  r text;
BEGIN
  FOREACH r IN ARRAY ARRAY['cloister_audit', 'cloister_seal'] LOOP
    BEGIN
      IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN', r);
      END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
      NULL; -- another database of this cluster migrates at the same moment
    END;
  END LOOP;
END
$$;
-- +goose StatementEnd
GRANT cloister_audit, cloister_seal TO CURRENT_USER;
ALTER SCHEMA audit OWNER TO cloister_audit;

-- Every row has a number in the order in which rows were begun: gaps are transactions that came to nothing. One at
-- a time, since the sealer needs to know that no lower one is still to come. It counts for all practices: it is for nobody's eyes.
CREATE SEQUENCE audit.seq AS bigint CACHE 1;

ALTER TABLE audit.event RENAME TO event_before;
ALTER TABLE audit.event_before DROP CONSTRAINT event_pkey;
DROP INDEX audit.event_patients;
ALTER TABLE audit.security RENAME TO security_before;
ALTER TABLE audit.security_before DROP CONSTRAINT security_pkey;
DROP INDEX audit.security_account;
ALTER TABLE audit.downgrade RENAME TO downgrade_before;
DROP INDEX audit.downgrade_event;

-- mac proves that a server wrote the row; NULL in rows of before. A column that is added later has to be
-- nullable and without a default: NULL is in no digest, so that those of older rows stay what they were.
CREATE TABLE audit.event (LIKE audit.event_before INCLUDING DEFAULTS, seq bigint NOT NULL DEFAULT nextval('audit.seq'), mac bytea, PRIMARY KEY (tenant, at, id)) PARTITION BY RANGE (at);
CREATE INDEX event_patients ON audit.event USING gin (patients);
CREATE INDEX event_seq ON audit.event (seq);
CREATE TABLE audit.security (LIKE audit.security_before INCLUDING DEFAULTS, seq bigint NOT NULL DEFAULT nextval('audit.seq'), mac bytea, PRIMARY KEY (tenant, at, id)) PARTITION BY RANGE (at);
CREATE INDEX security_account ON audit.security (account, at) WHERE account <> '';
CREATE INDEX security_seq ON audit.security (seq);
CREATE TABLE audit.downgrade (LIKE audit.downgrade_before INCLUDING DEFAULTS, seq bigint NOT NULL DEFAULT nextval('audit.seq'), mac bytea) PARTITION BY RANGE (at);
CREATE INDEX downgrade_event ON audit.downgrade (tenant, at, event);
CREATE INDEX downgrade_seq ON audit.downgrade (seq);

-- A link seals rows of one month: entries has kind, mark, number, id and digest of each (package authz/audit/trail).
-- With it all rows of the trail up to through are sealed. Links of a month are a chain.
CREATE TABLE audit.link (
  month   date NOT NULL,                     -- of the rows, in UTC
  n       bigint NOT NULL,                   -- from 1
  at      timestamptz NOT NULL,
  through bigint NOT NULL,
  rows    integer NOT NULL,
  entries bytea NOT NULL,
  prev    bytea NOT NULL,
  hash    bytea NOT NULL,
  mac     bytea NOT NULL,
  PRIMARY KEY (month, n)
) PARTITION BY RANGE (month);
CREATE INDEX link_through ON audit.link (through);

-- Signed statements of how far the chains have come.
CREATE TABLE audit.checkpoint (
  number    bigint PRIMARY KEY,
  at        timestamptz NOT NULL,
  body      text NOT NULL,
  signature bytea NOT NULL
);

-- How far each receiver has been told. It is no evidence, and changes.
CREATE TABLE audit.forwarded (
  receiver text PRIMARY KEY,
  seq      bigint NOT NULL,
  at       timestamptz NOT NULL
);

-- +goose StatementBegin
CREATE FUNCTION audit.append_only() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  RAISE EXCEPTION 'rows of the audit trail are only added' USING ERRCODE = 'insufficient_privilege';
END
$$;

-- What there is of a month, table by table. Writers wait for it only where rows
-- of the month are in the default partition, which are moved.
CREATE FUNCTION audit.add_month(month date) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
  first timestamptz := date_trunc('month', month::timestamp) AT TIME ZONE 'UTC';
  last  timestamptz := (date_trunc('month', month::timestamp) + interval '1 month') AT TIME ZONE 'UTC';
  t text;
  name text;
  key text;
  lo text;
  hi text;
  strays boolean;
  added boolean := false;
BEGIN
  PERFORM pg_advisory_xact_lock(4711026001);
  FOREACH t IN ARRAY ARRAY['event', 'security', 'downgrade', 'link'] LOOP
    name := t || '_' || to_char(month, 'YYYY_MM');
    CONTINUE WHEN to_regclass(format('audit.%I', name)) IS NOT NULL;
    IF t = 'link' THEN
      key := 'month'; lo := date_trunc('month', month::timestamp)::date::text; hi := (date_trunc('month', month::timestamp) + interval '1 month')::date::text;
    ELSE
      key := 'at'; lo := first::text; hi := last::text;
    END IF;
    EXECUTE format('CREATE TABLE audit.%I (LIKE audit.%I INCLUDING ALL)', name, t);
    EXECUTE format('ALTER TABLE audit.%I OWNER TO cloister_audit', name);
    EXECUTE format('SELECT EXISTS (SELECT FROM audit.%I WHERE %I >= %L AND %I < %L)', t || '_default', key, lo, key, hi) INTO strays;
    IF strays THEN
      EXECUTE format('ALTER TABLE audit.%I DISABLE TRIGGER append_only', t || '_default');
      EXECUTE format('WITH stray AS (DELETE FROM audit.%I WHERE %I >= %L AND %I < %L RETURNING *) INSERT INTO audit.%I SELECT * FROM stray', t || '_default', key, lo, key, hi, name);
      EXECUTE format('ALTER TABLE audit.%I ENABLE TRIGGER append_only', t || '_default');
    END IF;
    EXECUTE format('ALTER TABLE audit.%I ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)', t, name, lo, hi);
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.%I FOR EACH STATEMENT EXECUTE FUNCTION audit.append_only()', name);
    added := true;
  END LOOP;
  RETURN added;
END
$$;

-- All that the server may have made in this schema: the months from this one on. It runs as its owner.
CREATE FUNCTION audit.prepare() RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
  added integer := 0;
BEGIN
  FOR i IN 0..3 LOOP
    IF audit.add_month((date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => i))::date) THEN
      added := added + 1;
    END IF;
  END LOOP;
  RETURN added;
END
$$;

-- Whoever owns the trail drops a month, after cloister audit retain has noted and signed it.
CREATE FUNCTION audit.drop_month(month date) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
  first date := date_trunc('month', month::timestamp)::date;
  next  date := (date_trunc('month', month::timestamp) + interval '1 month')::date;
  t text;
  gone boolean;
BEGIN
  FOREACH t IN ARRAY ARRAY['event', 'security', 'downgrade', 'link'] LOOP
    EXECUTE format('DROP TABLE IF EXISTS audit.%I', t || '_' || to_char(month, 'YYYY_MM'));
    IF t = 'link' THEN
      EXECUTE 'SELECT EXISTS (SELECT FROM audit.link_default l WHERE l.month >= $1 AND l.month < $2)' INTO gone USING first, next;
    ELSE
      EXECUTE format('SELECT EXISTS (SELECT FROM audit.%I WHERE at >= $1 AND at < $2)', t || '_default') INTO gone USING first::timestamp AT TIME ZONE 'UTC', next::timestamp AT TIME ZONE 'UTC';
    END IF;
    CONTINUE WHEN NOT gone;
    EXECUTE format('ALTER TABLE audit.%I DISABLE TRIGGER append_only', t || '_default');
    IF t = 'link' THEN
      EXECUTE 'DELETE FROM audit.link_default l WHERE l.month >= $1 AND l.month < $2' USING first, next;
    ELSE
      EXECUTE format('DELETE FROM audit.%I WHERE at >= $1 AND at < $2', t || '_default') USING first::timestamp AT TIME ZONE 'UTC', next::timestamp AT TIME ZONE 'UTC';
    END IF;
    EXECUTE format('ALTER TABLE audit.%I ENABLE TRIGGER append_only', t || '_default');
  END LOOP;
END
$$;

-- Checkpoints of before number, which stands for all of them.
CREATE FUNCTION audit.drop_checkpoints(before bigint) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  ALTER TABLE audit.checkpoint DISABLE TRIGGER append_only;
  DELETE FROM audit.checkpoint WHERE number < before;
  ALTER TABLE audit.checkpoint ENABLE TRIGGER append_only;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION audit.append_only(), audit.add_month(date), audit.prepare(), audit.drop_month(date), audit.drop_checkpoints(bigint) FROM PUBLIC;

-- A row is never refused for its moment: where there is no month for it, it goes here.
-- +goose StatementBegin
DO $$
DECLARE
  t text;
  m date;
BEGIN
  FOREACH t IN ARRAY ARRAY['event', 'security', 'downgrade', 'link'] LOOP
    EXECUTE format('CREATE TABLE audit.%I PARTITION OF audit.%I DEFAULT', t || '_default', t);
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.%I FOR EACH STATEMENT EXECUTE FUNCTION audit.append_only()', t);
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.%I FOR EACH STATEMENT EXECUTE FUNCTION audit.append_only()', t || '_default');
  END LOOP;
  CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.checkpoint FOR EACH STATEMENT EXECUTE FUNCTION audit.append_only();
  FOR m IN SELECT DISTINCT date_trunc('month', at AT TIME ZONE 'UTC')::date FROM (
    SELECT at FROM audit.event_before UNION ALL SELECT at FROM audit.security_before UNION ALL SELECT at FROM audit.downgrade_before) AS x WHERE isfinite(at)
  LOOP
    PERFORM audit.add_month(m);
  END LOOP;
  PERFORM audit.prepare();
END
$$;
-- +goose StatementEnd

-- Rows of before have the numbers up to 0: what the first links call found.
INSERT INTO audit.event SELECT e.*, row_number() OVER (ORDER BY at, id) - (SELECT count(*) FROM audit.event_before) - (SELECT count(*) FROM audit.security_before) - (SELECT count(*) FROM audit.downgrade_before), NULL FROM audit.event_before e;
INSERT INTO audit.security SELECT e.*, row_number() OVER (ORDER BY at, id) - (SELECT count(*) FROM audit.security_before) - (SELECT count(*) FROM audit.downgrade_before), NULL FROM audit.security_before e;
INSERT INTO audit.downgrade SELECT e.*, row_number() OVER (ORDER BY at, event, entity) - (SELECT count(*) FROM audit.downgrade_before), NULL FROM audit.downgrade_before e;
DROP TABLE audit.event_before, audit.security_before, audit.downgrade_before;

-- +goose StatementBegin
DO $$
DECLARE
  x record;
BEGIN
  FOR x IN SELECT c.oid::regclass AS name, c.relkind FROM pg_class c WHERE c.relnamespace = 'audit'::regnamespace AND c.relkind IN ('r', 'p', 'S') ORDER BY c.relkind = 'S' LOOP
    IF x.relkind = 'S' THEN
      EXECUTE format('ALTER SEQUENCE %s OWNER TO cloister_audit', x.name);
    ELSE
      EXECUTE format('ALTER TABLE %s OWNER TO cloister_audit', x.name);
    END IF;
  END LOOP;
  FOR x IN SELECT p.oid::regprocedure AS name FROM pg_proc p WHERE p.pronamespace = 'audit'::regnamespace LOOP
    EXECUTE format('ALTER FUNCTION %s OWNER TO cloister_audit', x.name);
  END LOOP;
END
$$;
-- +goose StatementEnd

GRANT USAGE ON SCHEMA audit TO cloister_seal;
GRANT SELECT, INSERT ON audit.event, audit.downgrade TO cloister_app, cloister_notes;
GRANT SELECT, INSERT ON audit.security TO cloister_app;
GRANT USAGE ON SEQUENCE audit.seq TO cloister_app, cloister_notes;
GRANT SELECT ON audit.checkpoint TO cloister_app, cloister_notes;
GRANT SELECT ON audit.event, audit.security, audit.downgrade, audit.seq TO cloister_seal;
GRANT SELECT, INSERT ON audit.link, audit.checkpoint TO cloister_seal;
GRANT SELECT, INSERT, UPDATE ON audit.forwarded TO cloister_seal;
GRANT EXECUTE ON FUNCTION audit.prepare() TO cloister_seal;

-- +goose Down
-- +goose StatementBegin
DO $$
DECLARE
  t text;
BEGIN
  EXECUTE format('ALTER SCHEMA audit OWNER TO %I', current_user);
  FOREACH t IN ARRAY ARRAY['event', 'security', 'downgrade'] LOOP
    EXECUTE format('CREATE TABLE audit.%I (LIKE audit.%I INCLUDING DEFAULTS)', t || '_after', t);
    EXECUTE format('INSERT INTO audit.%I SELECT * FROM audit.%I', t || '_after', t);
    EXECUTE format('ALTER TABLE audit.%I DROP seq, DROP mac', t || '_after');
    EXECUTE format('DROP TABLE audit.%I', t);
    EXECUTE format('ALTER TABLE audit.%I RENAME TO %I', t || '_after', t);
  END LOOP;
END
$$;
-- +goose StatementEnd
ALTER TABLE audit.event ADD PRIMARY KEY (tenant, at, id);
CREATE INDEX event_patients ON audit.event USING gin (patients);
ALTER TABLE audit.security ADD PRIMARY KEY (tenant, at, id);
CREATE INDEX security_account ON audit.security (account, at) WHERE account <> '';
CREATE INDEX downgrade_event ON audit.downgrade (tenant, at, event);
DROP TABLE audit.link, audit.checkpoint, audit.forwarded;
DROP SEQUENCE audit.seq;
DROP FUNCTION audit.prepare(), audit.add_month(date), audit.drop_month(date), audit.drop_checkpoints(bigint), audit.append_only();
GRANT SELECT, INSERT ON audit.event, audit.downgrade TO cloister_app, cloister_notes;
GRANT SELECT, INSERT ON audit.security TO cloister_app;
REVOKE USAGE ON SCHEMA audit FROM cloister_seal;
