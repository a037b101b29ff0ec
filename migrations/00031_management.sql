-- +goose Up

-- Which organization manages a Group, version by version: who manages it now does not
-- read what it said when somebody else did.
CREATE TABLE record.management (
  tenant       integer NOT NULL,
  source       bigint NOT NULL,
  version      integer NOT NULL,
  organization text COLLATE "C" NOT NULL,
  PRIMARY KEY (tenant, source, version)
);
GRANT SELECT, INSERT ON record.management TO cloister_app, cloister_notes;

INSERT INTO record.management (tenant, source, version, organization)
SELECT g.tenant, g.pk, g.version, substring(g.body #>> '{managingEntity,reference}' FROM '^Organization/([A-Za-z0-9.-]{1,64})$')
FROM (SELECT tenant, type, pk, version, body FROM record.resource UNION ALL SELECT tenant, type, pk, version, body FROM record.resource_history) AS g
WHERE g.type = 58 AND g.body #>> '{managingEntity,reference}' ~ '^Organization/[A-Za-z0-9.-]{1,64}$'
  AND g.body -> 'active' IS DISTINCT FROM 'false' AND NOT g.body ? 'modifierExtension'
ON CONFLICT DO NOTHING;

-- Of exports that are organized by patient: which type is in each line of a part, and of whose block it is.
ALTER TABLE export.part ADD COLUMN types text[], ADD COLUMN blocks text[];

-- +goose Down
ALTER TABLE export.part DROP COLUMN types, DROP COLUMN blocks;
DROP TABLE record.management;
