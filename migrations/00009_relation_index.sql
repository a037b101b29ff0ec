-- Whom a member is related to, and since when, is asked in nearly every
-- statement: the index answers it alone.

-- +goose Up
DROP INDEX record.relation_member;
CREATE INDEX relation_member ON record.relation (tenant, kind, member, patient) INCLUDE (starts, ends);

-- +goose Down
DROP INDEX record.relation_member;
CREATE INDEX relation_member ON record.relation (tenant, kind, member, patient);
