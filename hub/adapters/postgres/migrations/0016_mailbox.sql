-- The mailbox that every partner has: what its programs hold, and what is parked for it, found without looking
-- through what it has acknowledged.

CREATE TABLE mailbox_lease (
    delivery   uuid PRIMARY KEY,
    subscriber text NOT NULL,                  -- whose reader; the delivery's partner then
    reader     text NOT NULL,                  -- a program of the partner, by the name it gave itself
    until      timestamptz NOT NULL
);
CREATE INDEX mailbox_lease_of ON mailbox_lease (subscriber, until);

CREATE INDEX delivery_stuck ON delivery (lane, sequence) WHERE due_at IS NULL AND cause IS NOT NULL;

-- An agent's browser, from the moment its token was shown; of its secret only the hash is kept.
CREATE TABLE page_session (
    hash     bytea PRIMARY KEY,
    token    text NOT NULL,                    -- it ends with it
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    used_at  timestamptz NOT NULL DEFAULT clock_timestamp() -- to the minute
);
CREATE INDEX page_session_of ON page_session (token, begun_at);
CREATE INDEX page_session_used ON page_session (used_at);
