-- +goose Up

-- Subscriptions (Subscriptions R5 Backport): who wants to be told of what, what has been
-- told, and the changes that somebody may have to be told of.
CREATE SCHEMA notify;

-- Counts the turns of the workers: whoever holds the newest turn of a subscription may go on with it.
CREATE SEQUENCE notify.turn;

CREATE TABLE notify.subscription (
  id       uuid PRIMARY KEY,
  tenant   integer NOT NULL,
  owner    bytea NOT NULL CHECK (octet_length(owner) = 32), -- digest of the client
  version  integer NOT NULL,
  updated  timestamptz NOT NULL,
  sealed   bytea NOT NULL,               -- resource, principal and secrets, under the subscription's key
  kek      text NOT NULL,                -- which key wrapped it
  wrapped  bytea NOT NULL,
  channel  text NOT NULL CHECK (channel IN ('rest-hook', 'websocket')),
  types    smallint[] NOT NULL,          -- of which it is about
  status   text NOT NULL CHECK (status IN ('requested', 'active', 'error', 'off')),
  reason   text NOT NULL DEFAULT '',     -- of error and off
  barrier  bigint,                       -- what ran when it was stored, ran before this transaction id
  position bigint,                       -- up to which the changes have been looked at
  events   bigint NOT NULL DEFAULT 0,    -- how many there are
  sent     bigint NOT NULL DEFAULT 0,    -- how many of them have been delivered
  failures integer NOT NULL DEFAULT 0,   -- since the last delivery
  beat     integer NOT NULL DEFAULT 0,   -- seconds between heartbeats; 0 is none
  spoke    timestamptz NOT NULL,         -- when something was delivered last
  due      timestamptz NOT NULL,         -- when it is tried again
  turn     bigint,
  lease    timestamptz NOT NULL,         -- until when nobody else may take it
  expires  timestamptz NOT NULL,         -- Subscription.end
  since    timestamptz NOT NULL          -- of the status
);
CREATE INDEX subscription_owner ON notify.subscription (tenant, owner);
CREATE INDEX subscription_live ON notify.subscription (tenant) WHERE status <> 'off';

-- What a transaction changed, written by itself. Whatever is visible here has been committed.
CREATE TABLE notify.pending (
  seq     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant  integer NOT NULL,
  type    smallint NOT NULL,
  id      text COLLATE "C" NOT NULL,
  pk      bigint NOT NULL,
  version integer NOT NULL,
  deleted boolean NOT NULL
);

-- The same, in the order in which it was found to be committed: no change ever takes a place
-- before one that somebody may have seen.
CREATE TABLE notify.change (
  position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant   integer NOT NULL,
  type     smallint NOT NULL,
  id       text COLLATE "C" NOT NULL,
  pk       bigint NOT NULL,
  version  integer NOT NULL,
  deleted  boolean NOT NULL
);
CREATE INDEX change_tenant ON notify.change (tenant, position);

-- What a subscriber has been told, or is about to be: numbers without a gap.
CREATE TABLE notify.event (
  subscription uuid NOT NULL REFERENCES notify.subscription ON DELETE CASCADE,
  number       bigint NOT NULL,
  type         smallint NOT NULL,
  id           text COLLATE "C" NOT NULL,
  pk           bigint NOT NULL,
  version      integer NOT NULL,
  at           timestamptz NOT NULL,     -- of the change
  PRIMARY KEY (subscription, number)
);
CREATE INDEX event_resource ON notify.event (subscription, pk);

-- Tokens by which a connection is bound to subscriptions, as digests.
CREATE TABLE notify.binding (
  digest        bytea PRIMARY KEY,
  subscriptions uuid[] NOT NULL,
  until         timestamptz NOT NULL
);

GRANT USAGE ON SCHEMA notify TO cloister_app, cloister_notes;
GRANT SELECT ON notify.subscription TO cloister_notes;
GRANT SELECT, INSERT, UPDATE, DELETE ON notify.subscription TO cloister_app;
GRANT INSERT ON notify.pending TO cloister_app, cloister_notes;
GRANT SELECT, DELETE ON notify.pending TO cloister_app;
GRANT SELECT, INSERT, DELETE ON notify.change, notify.event, notify.binding TO cloister_app;
GRANT USAGE ON SEQUENCE notify.turn TO cloister_app;

-- +goose Down
DROP SCHEMA notify CASCADE;
