-- +goose Up

-- What was granted by a membership ends with it, or with a change of what it says, whoever makes the change and by whatever way.
-- +goose StatementBegin
CREATE FUNCTION identity.end_of_membership() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  WITH gone AS (
    UPDATE identity.app_grant g SET ended = clock_timestamp()
    WHERE g.account = OLD.account AND g.tenant = OLD.tenant AND g.ended IS NULL
      AND CASE coalesce(g.body #>> '{User,Type}', '') WHEN '' THEN '' ELSE (g.body #>> '{User,Type}') || '/' || (g.body #>> '{User,ID}') END = OLD.fhir_user
    RETURNING g.id)
  INSERT INTO identity.ended (key, at) SELECT id::text, clock_timestamp() FROM gone ON CONFLICT (key) DO NOTHING;
  RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER end_of_membership AFTER DELETE ON identity.membership FOR EACH ROW EXECUTE FUNCTION identity.end_of_membership();
CREATE TRIGGER change_of_membership AFTER UPDATE ON identity.membership FOR EACH ROW
  WHEN (OLD.roles IS DISTINCT FROM NEW.roles OR OLD.organizations IS DISTINCT FROM NEW.organizations OR OLD.fhir_user IS DISTINCT FROM NEW.fhir_user)
  EXECUTE FUNCTION identity.end_of_membership();

-- Staff who are no Practitioners, at the front desk or in the office, may be a Person: who she is, for apps that ask, and no party to care.
ALTER TABLE identity.membership DROP CONSTRAINT membership_fhir_user_check;
ALTER TABLE identity.membership ADD CONSTRAINT membership_fhir_user_check
  CHECK (fhir_user = '' OR fhir_user ~ '^(Practitioner|Patient|RelatedPerson|Person)/[A-Za-z0-9.-]{1,64}$');

-- +goose Down
ALTER TABLE identity.membership DROP CONSTRAINT membership_fhir_user_check;
ALTER TABLE identity.membership ADD CONSTRAINT membership_fhir_user_check
  CHECK (fhir_user = '' OR fhir_user ~ '^(Practitioner|Patient|RelatedPerson)/[A-Za-z0-9.-]{1,64}$') NOT VALID;
DROP TRIGGER change_of_membership ON identity.membership;
DROP TRIGGER end_of_membership ON identity.membership;
DROP FUNCTION identity.end_of_membership();
