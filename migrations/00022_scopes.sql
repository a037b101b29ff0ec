-- +goose Up

-- Scopes with search parameters open a superseded version by what it said itself.
-- Versions superseded before this have no tokens: no such scope opens them.
ALTER TABLE record.resource_history ADD tokens bigint[];
ALTER TABLE notes.resource_history ADD tokens bigint[];

-- +goose Down
ALTER TABLE record.resource_history DROP tokens;
ALTER TABLE notes.resource_history DROP tokens;
