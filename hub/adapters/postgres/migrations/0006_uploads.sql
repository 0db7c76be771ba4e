-- Files that a sender sends ahead of a deposit. Sealed under one key for each upload, which becomes the key of the
-- submission that takes the files over; digests are keyed. A row goes when its upload is taken over or too old,
-- and only then its file, if no submission names it.

CREATE TABLE upload (
    id         uuid NOT NULL,
    number     integer NOT NULL,
    sender     text NOT NULL,
    location   text NOT NULL UNIQUE,
    size       bigint NOT NULL,
    digest     bytea NOT NULL,
    wrapped    bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (id, number)
);
CREATE INDEX upload_age ON upload (created_at);
