-- The way back: what partners say of their deliveries.

-- Of each sender, the last number that an event of its submissions was given: under this row's lock, which is held
-- until the commit, so whoever sees a number sees all smaller ones.
CREATE TABLE sender (
    name   text PRIMARY KEY,
    events bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE event (
    id         uuid PRIMARY KEY,
    sender     text NOT NULL,
    number     bigint NOT NULL,                -- among its sender's, from 1 without a gap
    submission uuid NOT NULL,
    delivery   uuid NOT NULL,
    subscriber text NOT NULL,                  -- who said it
    way        text NOT NULL,
    status     text,                           -- null: it says none
    before     text NOT NULL,                  -- the status it found
    edition    integer NOT NULL,               -- the rule book whose table of moves allowed it
    digest     bytea NOT NULL,                 -- keyed, of all that it says
    sealed     bytea NOT NULL,                 -- message, reference, and the file's name, type and digest
    location   text,                           -- of the file, in the attachment store
    size       bigint,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    shown_at   timestamptz,                    -- when its sender first read it
    UNIQUE (sender, number)
);
CREATE INDEX event_delivery ON event (delivery, number);

-- How far the case of a delivery is at its partner; without a row, nobody said anything of it.
CREATE TABLE delivery_case (
    delivery   uuid PRIMARY KEY,
    status     text NOT NULL,
    number     integer NOT NULL,               -- of its statuses, from 0 for the first
    before     text NOT NULL,                  -- the status it was changed from
    event      uuid NOT NULL,                  -- that changed it
    subscriber text NOT NULL,                  -- who said so
    changed_at timestamptz NOT NULL
) WITH (fillfactor = 70);

-- Whose events this partner's endpoint is sent: that sender's. Null: none's. That no two say the same, an import sees to.
ALTER TABLE partner ADD COLUMN sender text;
CREATE INDEX partner_sender ON partner (sender) WHERE sender IS NOT NULL;
