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
