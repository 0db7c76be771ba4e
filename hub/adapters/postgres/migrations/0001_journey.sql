-- The whole journey. Forward only: a published migration is never edited, a later one changes what it made.
-- Times are this database's clock. What the citizen wrote is sealed; names of files are sealed with it.

-- Which store this is: the attachments beside it belong to no other.
CREATE TABLE store (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    id     uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO store DEFAULT VALUES;

-- Who may knock -----------------------------------------------------------------------------------------

CREATE TABLE token (
    id           text PRIMARY KEY,
    hash         bytea NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('sender', 'partner', 'operator')),
    owner        text NOT NULL,
    procedures   text[] NOT NULL DEFAULT '{}',
    role         text,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at   timestamptz
);

-- The rule book -----------------------------------------------------------------------------------------

CREATE TABLE rule_book (
    number         integer PRIMARY KEY,
    effective_from timestamptz NOT NULL UNIQUE,
    digest         bytea NOT NULL,
    content        bytea NOT NULL,
    author         text NOT NULL,
    reason         text NOT NULL,
    published_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The highest clock anybody read under the rule book's lock: a clock that steps back changes nothing.
CREATE TABLE rule_book_clock (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    value  timestamptz NOT NULL
);
INSERT INTO rule_book_clock (value) VALUES ('-infinity');

-- Partners ----------------------------------------------------------------------------------------------

CREATE TABLE partner (
    subscriber text PRIMARY KEY,               -- SIRET-branch
    name       text NOT NULL,
    channel    text NOT NULL,
    settings   jsonb NOT NULL DEFAULT '{}',
    secrets    bytea,                          -- sealed under a key of its own, wrapped beside it
    secrets_key bytea,
    sequence   bigint NOT NULL DEFAULT 0       -- the last number given to a delivery of this partner
);

CREATE TABLE lane (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscriber  text NOT NULL,
    channel     text NOT NULL,
    due_at      timestamptz,                   -- null: it sleeps, it has no row in motion
    holder      text,
    lease_until timestamptz,
    rests_until timestamptz,                   -- its endpoint was found away: what is due waits until then
    UNIQUE (subscriber, channel)
);
CREATE INDEX lane_due ON lane (due_at) WHERE due_at IS NOT NULL;

-- Submissions -------------------------------------------------------------------------------------------

CREATE TABLE submission (
    id          uuid PRIMARY KEY,
    sender      text NOT NULL,
    external_id text NOT NULL,
    procedure   text NOT NULL,
    facts       jsonb NOT NULL,
    digest      bytea NOT NULL,
    sealed      bytea NOT NULL,
    attachments jsonb NOT NULL,                -- [{number, type, recipients, size, location}]
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (sender, external_id)
);
CREATE INDEX submission_received ON submission (received_at, id);

-- Destroying these rows purges what was sealed under them.
CREATE TABLE submission_key (
    submission uuid PRIMARY KEY,
    wrapped    bytea NOT NULL
);

-- Which files of the attachment store are named by an accepted submission.
CREATE TABLE stored_file (
    location   text PRIMARY KEY,
    submission uuid NOT NULL
);

CREATE TABLE tray (
    position   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    submission uuid NOT NULL
);

-- Decisions and deliveries ------------------------------------------------------------------------------

CREATE TABLE decision (
    submission uuid NOT NULL,
    number     integer NOT NULL,
    snapshot   integer NOT NULL,
    verdict    text NOT NULL CHECK (verdict IN ('routed', 'unroutable', 'set_aside')),
    reasons    text[] NOT NULL DEFAULT '{}',   -- what was tried, or why it was set aside
    recipients jsonb NOT NULL DEFAULT '[]',    -- [{delivery, subscriber, attachments, reasons}]
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (submission, number)
);

CREATE TABLE delivery (
    id          uuid PRIMARY KEY,
    submission  uuid NOT NULL,
    procedure   text NOT NULL,
    subscriber  text NOT NULL,
    lane        bigint NOT NULL,
    channel     text NOT NULL,
    sequence    bigint NOT NULL,
    kind        text NOT NULL,
    revision    integer NOT NULL,
    attachments integer[] NOT NULL,
    state       text NOT NULL DEFAULT 'planned',
    due_at      timestamptz,                   -- its one wake-up: null exactly when it is at rest
    sending     integer NOT NULL DEFAULT 1,
    attempt     integer NOT NULL DEFAULT 0,    -- within this sending
    cause       text,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((due_at IS NULL) = (state NOT IN ('planned', 'in_flight', 'waiting'))),
    UNIQUE (subscriber, sequence)
);
CREATE INDEX delivery_due ON delivery (lane, due_at, sequence) WHERE due_at IS NOT NULL;
CREATE INDEX delivery_submission ON delivery (submission);
CREATE INDEX delivery_paging ON delivery (created_at, id);
CREATE INDEX delivery_parked ON delivery (cause, channel) WHERE state = 'parked';

CREATE TABLE attempt (
    delivery   uuid NOT NULL,
    sending    integer NOT NULL,
    number     integer NOT NULL,
    worker     text NOT NULL,                  -- whose hold it is: only its own does a worker lengthen
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at   timestamptz,
    outcome    text,                           -- delivered, deferred, refused, lost
    cause      text,
    receipt    text,
    PRIMARY KEY (delivery, sending, number)
);

-- Records of the log that name no accepted submission: shown beside the accounts.
CREATE TABLE stray (
    submission uuid NOT NULL,
    number     integer NOT NULL,
    seen_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (submission, number)
);

-- Replays -----------------------------------------------------------------------------------------------

CREATE TABLE replay (
    id          uuid PRIMARY KEY,
    author      text NOT NULL,
    reason      text NOT NULL,
    selection   jsonb NOT NULL,
    matched     integer NOT NULL,
    sent        integer NOT NULL DEFAULT 0,
    skipped     integer NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz
);
CREATE INDEX replay_unfinished ON replay (created_at) WHERE finished_at IS NULL;

CREATE TABLE replay_item (
    replay   uuid NOT NULL,
    delivery uuid NOT NULL,
    sending  integer NOT NULL,                 -- the sending that is to be repeated
    state    text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'skipped')),
    PRIMARY KEY (replay, delivery)
);
CREATE INDEX replay_item_pending ON replay_item (replay, delivery) WHERE state = 'pending';

-- The journal (piste d'audit) ---------------------------------------------------------------------------

CREATE TABLE journal (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    submission uuid,
    delivery   uuid,
    event      text NOT NULL,
    actor      text NOT NULL,
    detail     text NOT NULL DEFAULT ''        -- ids, states, causes; never personal data, never a secret
);
CREATE INDEX journal_submission ON journal (submission, id);

-- The log -----------------------------------------------------------------------------------------------

CREATE TABLE log_partition (
    topic       text NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint NOT NULL DEFAULT 0,     -- given under this row's lock, so offsets commit in order
    PRIMARY KEY (topic, partition)
);

CREATE TABLE log_record (
    topic     text NOT NULL,
    partition integer NOT NULL,
    "offset"  bigint NOT NULL,
    key       bytea NOT NULL,
    schema    text NOT NULL,
    value     bytea NOT NULL,
    PRIMARY KEY (topic, partition, "offset")
);

CREATE TABLE log_group (
    topic     text NOT NULL,
    name      text NOT NULL,
    partition integer NOT NULL,
    done      bigint NOT NULL,                 -- the first offset this group has not done
    life      uuid NOT NULL DEFAULT gen_random_uuid(), -- other than that of a group removed under this name
    PRIMARY KEY (topic, name, partition)
);
