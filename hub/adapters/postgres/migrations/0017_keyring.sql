-- What the store knows of the hub's keys: the root under which content is digested, wrapped by the hub's key like any
-- other key, so that what comes again is recognised after a rotation; which key was last made the newest, and when, and
-- which were before.

CREATE TABLE keyring (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    root   bytea NOT NULL,
    newest bytea NOT NULL,                     -- the id of that key, which tells nothing of it
    since  timestamptz NOT NULL DEFAULT clock_timestamp(),
    older  bytea[] NOT NULL DEFAULT '{}'
);
