-- The ledger: what was counted, kept apart from the rows it was counted of, so that a row that comes, goes or moves
-- behind the hub's back shows. Every transaction leaves a slip of what it counted; slips are added up into buckets
-- behind it. What the two say together is the ledger.

-- The hour of receipt of a submission, since the epoch: what belongs to it is kept under the same one.
CREATE FUNCTION hour_of(instant timestamptz) RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE
    RETURN floor(date_part('epoch', instant) / 3600)::integer;

-- By the functions that tables are parted by: what they give is the same in every later version.
CREATE FUNCTION ledger_hash(id uuid, hour integer, partner text) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN hashtextextended(partner, uuid_hash_extended(id, hour::bigint));

-- Of a sum, the lowest 64 bits.
CREATE FUNCTION wrapped(sum numeric) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (mod(mod(sum, 18446744073709551616) + 27670116110564327424, 18446744073709551616)
            - 9223372036854775808)::bigint;

CREATE FUNCTION term(state text, attempt integer) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN state <> 'in_flight' THEN state WHEN attempt > 1 THEN 'waiting' ELSE 'planned' END;

ALTER TABLE delivery ADD COLUMN hour integer;
ALTER TABLE decision
    ADD COLUMN hour integer,
    ADD COLUMN procedure text,
    ADD COLUMN late boolean NOT NULL DEFAULT false; -- it came after a newer one: it names nobody
UPDATE delivery SET hour = hour_of(received_at) FROM submission WHERE submission.id = delivery.submission;
UPDATE decision SET hour = hour_of(received_at), procedure = submission.procedure
FROM submission WHERE submission.id = decision.submission;

-- Few: those of which more than one decision was made.
CREATE INDEX decision_again ON decision (submission) WHERE number > 1;

-- Counting what was accepted reads this alone.
DROP INDEX submission_received;
CREATE INDEX submission_received ON submission (received_at, id) INCLUDE (procedure);

-- Entries: `number` ids whose hashes come to `sum` go from one side of a bucket to another (null: they are new).
CREATE TABLE ledger_slip (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind      text[] NOT NULL,                 -- of delivery; '' in the first equation
    hour      integer[] NOT NULL,
    procedure text[] NOT NULL,
    partner   text[] NOT NULL,                 -- whom decisions name; '' in the first equation
    source    text[] NOT NULL,
    target    text[] NOT NULL,
    number    integer[] NOT NULL,
    sum       bigint[] NOT NULL
);

-- One row for each bucket, and in it how many there are of each term and what their hashes come to; null: none.
CREATE TABLE ledger (
    hour      integer NOT NULL,
    procedure text NOT NULL,
    kind      text NOT NULL,
    partner   text NOT NULL,
    accepted_number     bigint, accepted_sum     bigint,
    undecided_number    bigint, undecided_sum    bigint,
    routed_number       bigint, routed_sum       bigint,
    unroutable_number   bigint, unroutable_sum   bigint,
    set_aside_number    bigint, set_aside_sum    bigint,
    named_number        bigint, named_sum        bigint,
    planned_number      bigint, planned_sum      bigint,
    waiting_number      bigint, waiting_sum      bigint,
    parked_number       bigint, parked_sum       bigint,
    delivered_number    bigint, delivered_sum    bigint,
    acknowledged_number bigint, acknowledged_sum bigint,
    returned_number     bigint, returned_sum     bigint,
    withdrawn_number    bigint, withdrawn_sum    bigint,
    expired_number      bigint, expired_sum      bigint,
    PRIMARY KEY (hour, procedure, kind, partner)
) WITH (fillfactor = 80);

-- The same added up over all buckets: what is asked for again and again.
CREATE TABLE ledger_total (
    kind   text NOT NULL,
    side   text NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (kind, side)
);

-- By these the database knows that few days and procedures come of many rows, and adds up in several processes; and
-- what was received lately lies together.
CREATE STATISTICS delivery_by_day (ndistinct) ON (COALESCE(hour, 0) / 24 * 24), procedure, kind, channel, state
    FROM delivery;
CREATE STATISTICS decision_by_day (ndistinct) ON (COALESCE(hour, 0) / 24 * 24), (COALESCE(procedure, '')), verdict
    FROM decision;
CREATE STATISTICS submission_by_day (ndistinct) ON (hour_of(received_at) / 24 * 24), procedure FROM submission;
CREATE STATISTICS ledger_by_day (ndistinct) ON (hour / 24 * 24), procedure, kind FROM ledger;
CREATE INDEX delivery_hour ON delivery USING brin (hour);
CREATE INDEX decision_hour ON decision USING brin (hour);

-- What was found when the ledger was last compared with the rows.
CREATE TABLE ledger_check (
    scope       text PRIMARY KEY,              -- recent, whole
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    differences bigint NOT NULL
);

-- What a person should look at, by partner; seen by one look after the other until it is over.
CREATE TABLE alarm (
    kind       text NOT NULL,
    subscriber text NOT NULL,                  -- '' where it is nobody's
    channel    text NOT NULL,
    since      timestamptz NOT NULL,           -- of the oldest of them
    number     bigint NOT NULL,
    cause      text,
    PRIMARY KEY (kind, subscriber, channel)
);

-- When its partner first saw it in its mailbox, and read a file of it since it was delivered last.
ALTER TABLE delivery ADD COLUMN shown_at timestamptz, ADD COLUMN fetched_at timestamptz;

-- What is there is counted as it stands.
INSERT INTO ledger_slip (kind, hour, procedure, partner, source, target, number, sum)
SELECT array_agg(kind), array_agg(hour), array_agg(procedure), array_agg(partner), array_agg(NULL::text),
       array_agg(target), array_agg(number::integer), array_agg(sum)
FROM (
    SELECT kind, hour, procedure, partner, target, count(*) AS number, wrapped(sum(ledger_hash(id, hour, partner))) AS sum
    FROM (
        SELECT '' AS kind, hour_of(received_at) AS hour, submission.procedure, '' AS partner, target, id
        FROM submission LEFT JOIN (
            SELECT DISTINCT ON (submission) submission, verdict FROM decision ORDER BY submission, number DESC
        ) AS newest ON newest.submission = submission.id
        CROSS JOIN LATERAL (VALUES ('accepted'), (COALESCE(verdict, 'undecided'))) AS side (target)
        UNION ALL
        SELECT DISTINCT ON (recipient ->> 'delivery') 'submission', hour, procedure, recipient ->> 'subscriber', 'named',
               (recipient ->> 'delivery')::uuid
        FROM decision, jsonb_array_elements(recipients) AS recipient
        WHERE hour IS NOT NULL
        UNION ALL
        SELECT kind, COALESCE(hour, 0), procedure, COALESCE(named, subscriber), term(state, attempt), id FROM delivery
    ) AS one
    GROUP BY kind, hour, procedure, partner, target
) AS entry
GROUP BY hour;
