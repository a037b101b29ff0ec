-- +goose Up

-- The content rules under which all that a practice stores is classified.
CREATE TABLE record.classified (
  tenant integer PRIMARY KEY,
  rules  text COLLATE "C" NOT NULL         -- their version
);

-- Classifying anew what a practice stores. Where it stands is written with each
-- batch, so that another server goes on from there when the one that had the lease has ended.
CREATE TABLE record.relabel (
  tenant  integer PRIMARY KEY,
  rules   text COLLATE "C" NOT NULL,
  types   smallint[] NOT NULL,             -- that are still to do, the first is under way
  planned integer NOT NULL,                -- how many they were
  schema  text COLLATE "C" NOT NULL,       -- of the type under way: where it stands, with id and shadow
  id      text COLLATE "C" NOT NULL,
  shadow  smallint NOT NULL,
  holder  uuid,
  lease   timestamptz
);

-- Labels that a sender stated of a record. They are in no stored content, so
-- what recomputes labels finds them here.
CREATE TABLE record.stated_label (
  tenant integer NOT NULL,
  pk     bigint NOT NULL,                  -- of the resource
  labels integer NOT NULL,
  PRIMARY KEY (tenant, pk)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON record.relabel TO cloister_app, cloister_notes;
GRANT SELECT, INSERT, UPDATE ON record.classified, record.stated_label TO cloister_app, cloister_notes;
-- A superseded version is classified anew, too. Nothing else of it ever changes.
GRANT UPDATE (label_class) ON record.resource_history, notes.resource_history TO cloister_notes;

-- Every record whose protection was lowered: only ever added to, like the events.
CREATE TABLE audit.downgrade (
  tenant     integer NOT NULL,
  at         timestamptz NOT NULL,
  event      uuid NOT NULL,                -- the audit.event of the operation
  entity     text NOT NULL,                -- Type/id/_history/version
  labels_old integer NOT NULL,
  labels_new integer NOT NULL,
  rules      text NOT NULL                 -- version of the content rules
);
CREATE INDEX downgrade_event ON audit.downgrade (tenant, at, event);
GRANT SELECT, INSERT ON audit.downgrade TO cloister_app, cloister_notes;

-- +goose Down
DROP TABLE audit.downgrade;
DROP TABLE record.stated_label, record.relabel, record.classified;
REVOKE UPDATE (label_class) ON record.resource_history, notes.resource_history FROM cloister_notes;
