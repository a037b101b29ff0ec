-- +goose Up

-- To whom a disclosure went, beside the user and the client (45 CFR 164.528(b)(2)(ii)), and
-- what held between the caller and each entity, as bits (authz.Fact): what is due for a disclosure follows from it.
ALTER TABLE audit.event ADD organizations text[] NOT NULL DEFAULT '{}', ADD facts integer[] NOT NULL DEFAULT '{}';

-- +goose Down
ALTER TABLE audit.event DROP organizations, DROP facts;
