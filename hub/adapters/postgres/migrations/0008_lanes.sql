-- Lanes that know how their endpoint stands, and rows that are written less often: claiming a row changes no
-- index (no index may name what a claim changes: state, attempt, sending, changed_at, withdrawing).

ALTER TABLE lane
    ADD COLUMN leased_at     timestamptz,      -- a row in flight since before this is nobody's any more
    ADD COLUMN keeper        text,             -- who held it last,
    ADD COLUMN kept_until    timestamptz,      -- and may have a connection open until then
    ADD COLUMN failures      integer NOT NULL DEFAULT 0, -- pages in a row that failed because of the endpoint
    ADD COLUMN failing_since timestamptz,
    ADD COLUMN at_once       integer,          -- parcels under way together; null: it has proved nothing yet
    ADD COLUMN closed_at     timestamptz,      -- its endpoint refused: nothing is tried until it is opened
    ADD COLUMN closed_cause  text,
    ADD COLUMN closed_by     uuid,             -- the delivery that was parked then
    ADD COLUMN left_for      bigint,           -- the lane that took over: for good,
    ADD COLUMN fell_back_at  timestamptz,      -- or while this one's endpoint is away; one row stays, to try it
    ADD COLUMN moves_at      timestamptz;      -- when its partner is succeeded first; null: not at all

-- What fails is looked for apart from what does not: however much of it there is, it costs the others nothing.
DROP INDEX lane_due;
CREATE INDEX lane_due ON lane (due_at) WHERE due_at IS NOT NULL AND failures = 0;
CREATE INDEX lane_due_failing ON lane (due_at) WHERE due_at IS NOT NULL AND failures > 0;

ALTER TABLE delivery
    ADD COLUMN withdrawing text,               -- why it is to be withdrawn when its attempt ends without success
    ADD COLUMN size bigint NOT NULL DEFAULT 0, -- bytes of the files it is given
    ADD COLUMN lies boolean GENERATED ALWAYS AS (state = 'delivered' AND channel = 'mailbox') STORED;
ALTER TABLE delivery SET (fillfactor = 80);

UPDATE delivery SET size = COALESCE((
    SELECT sum((file ->> 'size')::bigint)
    FROM submission, jsonb_array_elements(submission.attachments) AS file
    WHERE submission.id = delivery.submission AND (file ->> 'number')::integer = ANY(delivery.attachments)
), 0);

DROP INDEX delivery_parked;
CREATE INDEX delivery_parked ON delivery (cause, channel) WHERE due_at IS NULL AND cause IS NOT NULL;

-- What goes with a succession: all that is in motion (whoever moves it holds the lane, so an attempt that is
-- still in flight is lost), and what the partner was to fetch from its mailbox. What was handed over elsewhere,
-- was acknowledged, or is parked stays.
CREATE OR REPLACE VIEW following AS
    SELECT id, lane, state, sequence, by_mailbox FROM delivery WHERE due_at IS NOT NULL
    UNION ALL
    SELECT id, lane, state, sequence, by_mailbox FROM delivery WHERE lies;
DROP INDEX delivery_lying;
CREATE INDEX delivery_lying ON delivery (lane, sequence) WHERE lies;

-- An attempt is a line of the journal: who, what, when, why.
ALTER TABLE journal
    ADD COLUMN sending  integer,
    ADD COLUMN attempt  integer,
    ADD COLUMN began_at timestamptz,
    ADD COLUMN outcome  text,                  -- delivered, deferred, refused, lost
    ADD COLUMN cause    text,
    ADD COLUMN receipt  text;
INSERT INTO journal (at, submission, delivery, event, actor, sending, attempt, began_at, outcome, cause, receipt,
                     written_by)
    SELECT COALESCE(ended_at, clock_timestamp()), delivery.submission, delivery.id, 'delivery.attempted', 'hub',
           attempt.sending, attempt.number, started_at, outcome, attempt.cause, receipt, '3'
    FROM attempt JOIN delivery ON delivery.id = attempt.delivery
    WHERE ended_at IS NOT NULL
    ORDER BY started_at;
DROP TABLE attempt;
-- Whoever was at work with an older hub is not any more.
UPDATE lane SET leased_at = clock_timestamp(), due_at = LEAST(due_at, clock_timestamp())
WHERE holder IS NOT NULL;

-- The first moment at which somebody stands for this subscriber; null: never, as far as is known.
CREATE FUNCTION first_succeeded(asked text) RETURNS timestamptz LANGUAGE sql STABLE
SET enable_seqscan = off AS $$
    SELECT min(begins) FROM succession WHERE former = asked AND ends > clock_timestamp() AND ends > begins
$$;
UPDATE lane SET moves_at = first_succeeded(subscriber);

CREATE OR REPLACE FUNCTION wake_succeeded_lanes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    succeeded text[] := ARRAY(
        SELECT key FROM rule_book_item WHERE first_edition = NEW.number AND kind = 'succession'
    );
BEGIN
    IF succeeded <> '{}' THEN
        PERFORM pg_advisory_xact_lock(4812003);
        PERFORM FROM lane WHERE subscriber = ANY(succeeded) ORDER BY id FOR NO KEY UPDATE;
        UPDATE lane
        SET due_at = LEAST(due_at, succession_wakes(id)), moves_at = LEAST(moves_at, first_succeeded(subscriber))
        WHERE subscriber = ANY(succeeded);
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION share_lane_making() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(4812003);
    NEW.moves_at := first_succeeded(NEW.subscriber);
    RETURN NEW;
END
$$;
