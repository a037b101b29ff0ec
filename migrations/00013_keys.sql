-- +goose Up

-- One key per patient encrypts the bodies of notes. It is stored wrapped by a
-- key encryption key, which is in no database.
CREATE TABLE notes.data_key (
  id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant  integer NOT NULL,
  patient text COLLATE "C" NOT NULL,       -- '' for notes without one
  kek     text NOT NULL,                   -- URI of the key encryption key
  wrapped bytea NOT NULL,                  -- Tink EncryptedKeyset
  created timestamptz NOT NULL DEFAULT now(),
  UNIQUE (tenant, patient)
);
GRANT SELECT, INSERT ON notes.data_key TO cloister_notes;

-- An encrypted body is a string. From here on nothing else is stored; notes of
-- an earlier version stay as they are until cloister keys encrypt has run, which
-- validates the constraints, and no server starts before.
ALTER TABLE notes.resource ADD CONSTRAINT note_encrypted CHECK (jsonb_typeof(body) = 'string') NOT VALID;
ALTER TABLE notes.resource_history ADD CONSTRAINT note_encrypted CHECK (jsonb_typeof(body) = 'string') NOT VALID;

-- +goose StatementBegin
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM notes.resource) AND NOT EXISTS (SELECT FROM notes.resource_history) THEN
    ALTER TABLE notes.resource VALIDATE CONSTRAINT note_encrypted;
    ALTER TABLE notes.resource_history VALIDATE CONSTRAINT note_encrypted;
  END IF;
END
$$;
-- +goose StatementEnd

-- Texts and numbers of a note are not indexed: they would stand there in the clear.
REVOKE INSERT ON notes.resource_string, notes.resource_quantity FROM cloister_notes;

-- +goose Down

-- Without their keys the notes are noise.
DELETE FROM notes.resource_date;
DELETE FROM notes.resource_history;
DELETE FROM notes.resource;
GRANT INSERT ON notes.resource_string, notes.resource_quantity TO cloister_notes;
ALTER TABLE notes.resource_history DROP CONSTRAINT note_encrypted;
ALTER TABLE notes.resource DROP CONSTRAINT note_encrypted;
DROP TABLE notes.data_key;
