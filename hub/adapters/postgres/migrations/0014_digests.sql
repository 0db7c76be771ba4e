-- Digests: several deliveries in one mail; and mails that come back.

-- One row for each issue. It is over when none of what it lists is in motion any more: nothing is written then.
CREATE TABLE digest_issue (
    id         uuid PRIMARY KEY,               -- computed from subscriber, slot and number
    lane       bigint NOT NULL,
    subscriber text NOT NULL,
    slot       timestamptz NOT NULL,
    number     integer NOT NULL,
    attempt    integer NOT NULL DEFAULT 1,
    deliveries uuid[] NOT NULL,                -- what it lists, in its order,
    sendings   integer[] NOT NULL,             -- and of which sending each is
    fixed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (lane, slot, number)
);

-- What came back, of a delivery or an issue: by the place (from 1) of the address among those it was sent to.
CREATE TABLE bounce (
    mail       uuid NOT NULL,
    sending    integer NOT NULL,               -- 0 for an issue
    place      integer NOT NULL,
    address    text,                           -- null: its partner has no such address any more
    status     text,                           -- as RFC 3463 has it
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (mail, sending, place)
);

-- Addresses that a partner's own server does not take, while others of the same partner are served.
CREATE TABLE address_fault (
    subscriber text NOT NULL,
    place      integer NOT NULL,               -- from 1, as its settings list them
    cause      text NOT NULL,
    since      timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (subscriber, place)
);

-- A mail carries the reference alone unless its partner says otherwise. Who is served already keeps what it has.
UPDATE partner SET settings = settings || '{"mode": "attachments"}'
WHERE channel = 'mail' AND NOT settings ? 'mode';
