-- +goose Up

-- Psychotherapy notes (45 CFR 164.501) and SUD counseling notes (42 CFR 2.11) are
-- kept separate from the rest of the record: same shape, other schema, and no
-- right on it for the role under which everything else is served.
CREATE SCHEMA notes;

CREATE TABLE notes.resource (LIKE record.resource INCLUDING ALL);
CREATE TABLE notes.resource_history (LIKE record.resource_history INCLUDING ALL);
CREATE TABLE notes.resource_date (LIKE record.resource_date INCLUDING ALL);
CREATE TABLE notes.resource_string (LIKE record.resource_string INCLUDING ALL);

GRANT USAGE ON SCHEMA notes TO cloister_notes;
GRANT SELECT ON ALL TABLES IN SCHEMA notes TO cloister_notes;
GRANT INSERT, UPDATE ON notes.resource TO cloister_notes;
GRANT INSERT ON notes.resource_history TO cloister_notes;
GRANT INSERT, DELETE ON notes.resource_date, notes.resource_string TO cloister_notes;

-- +goose Down
DROP SCHEMA notes CASCADE;
