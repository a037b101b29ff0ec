-- +goose Up

-- Accesses by who had them, in the order of time.
CREATE INDEX event_user ON audit.event (tenant, fhir_user, at) WHERE fhir_user <> '';

-- +goose Down
DROP INDEX audit.event_user;
