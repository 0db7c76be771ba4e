-- What runs follows the successor of its partner: a delivery keeps its name, and lies in another lane under
-- another number.

ALTER TABLE delivery
    ADD COLUMN named text,                     -- whom its decision names; null: the subscriber itself
    ADD COLUMN by_mailbox boolean NOT NULL DEFAULT false; -- its rule wants it in a mailbox, whatever the channel

-- The numbers a partner's deliveries had before they moved away: with those of its deliveries they are
-- 1, 2, 3 … without a gap.
CREATE TABLE moved (
    subscriber text NOT NULL,
    sequence   bigint NOT NULL,
    delivery   uuid NOT NULL,
    lane       bigint NOT NULL,                -- the one it left
    moved_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (subscriber, sequence)
);
CREATE INDEX moved_delivery ON moved (delivery);

-- What lies in a mailbox, delivered and not acknowledged.
CREATE INDEX delivery_lying ON delivery (lane, sequence) WHERE state = 'delivered' AND channel = 'mailbox';

-- What goes with a succession: all that is not being attempted at this moment, and what the partner was to
-- fetch from its mailbox. What was handed over elsewhere, was acknowledged, or is parked stays.
CREATE VIEW following AS
    SELECT id, lane, state, sequence, by_mailbox FROM delivery
    WHERE due_at IS NOT NULL AND (state <> 'in_flight' OR due_at <= clock_timestamp())
    UNION ALL
    SELECT id, lane, state, sequence, by_mailbox FROM delivery
    WHERE state = 'delivered' AND channel = 'mailbox';

-- The successions of all editions, each with the time it is in force: begins <= an instant < ends. No join:
-- whatever the database believes of these tables, it begins with the item that is asked for.
CREATE VIEW succession AS
    SELECT item.key AS former,
           told.content ->> 'subscriber' AS subscriber,
           GREATEST(
               (SELECT effective_from FROM rule_book WHERE number = item.first_edition),
               (told.content ->> 'since')::date::timestamp AT TIME ZONE 'Europe/Paris'
           ) AS begins,
           COALESCE(
               (SELECT effective_from FROM rule_book WHERE number = item.last_edition), 'infinity'
           ) AS ends
    FROM rule_book_item AS item
    CROSS JOIN LATERAL (SELECT convert_from(item.content, 'UTF8')::jsonb AS content) AS told
    WHERE item.kind = 'succession';

-- Who stands for this subscriber now: itself, if nobody succeeded it. A connection keeps the plan it made
-- when the rule book was small: it must be one for a large one.
CREATE FUNCTION successor_in_force(asked text) RETURNS text LANGUAGE plpgsql STABLE
SET enable_seqscan = off AS $$
DECLARE
    passed    text[] := ARRAY[asked];
    successor text;
BEGIN
    LOOP
        SELECT subscriber INTO successor FROM succession
        WHERE former = passed[cardinality(passed)]
          AND begins <= clock_timestamp() AND ends > clock_timestamp();
        IF successor IS NULL THEN
            RETURN passed[cardinality(passed)];
        END IF;
        -- No rule book with a circle is published; one that came here otherwise moves nothing.
        IF successor = ANY(passed) THEN
            RETURN asked;
        END IF;
        passed := passed || successor;
    END LOOP;
END
$$;

-- When a lane is to be looked at because its partner is succeeded: now, while something of it is to follow;
-- else when its next succession begins; null: it is not succeeded.
CREATE FUNCTION succession_wakes(asked bigint) RETURNS timestamptz LANGUAGE plpgsql STABLE
SET enable_seqscan = off AS $$
DECLARE
    partner text;
BEGIN
    SELECT subscriber INTO partner FROM lane WHERE id = asked;
    IF NOT EXISTS (SELECT FROM rule_book_item WHERE kind = 'succession' AND key = partner) THEN
        RETURN NULL;
    END IF;
    IF successor_in_force(partner) <> partner THEN
        RETURN CASE WHEN EXISTS (SELECT FROM following WHERE lane = asked) THEN clock_timestamp() END;
    END IF;
    RETURN (
        SELECT min(begins) FROM succession
        WHERE former = partner AND begins > clock_timestamp() AND ends > begins
    );
END
$$;

-- An edition that brings successions wakes the lanes of those who are succeeded: what rests in a mailbox has
-- no due time of its own. At the end of the transaction, when all the edition's items are there. The lock,
-- which whoever makes a lane shares until the end, leaves no lane half made while it looks.
CREATE FUNCTION wake_succeeded_lanes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    succeeded text[] := ARRAY(
        SELECT key FROM rule_book_item WHERE first_edition = NEW.number AND kind = 'succession'
    );
BEGIN
    IF succeeded <> '{}' THEN
        PERFORM pg_advisory_xact_lock(4812003);
        PERFORM FROM lane WHERE subscriber = ANY(succeeded) ORDER BY id FOR NO KEY UPDATE;
        UPDATE lane SET due_at = LEAST(due_at, succession_wakes(id)) WHERE subscriber = ANY(succeeded);
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER rule_book_wakes_succeeded_lanes AFTER INSERT ON rule_book
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wake_succeeded_lanes();

CREATE FUNCTION share_lane_making() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(4812003);
    RETURN NEW;
END
$$;
CREATE TRIGGER lane_is_made BEFORE INSERT ON lane
    FOR EACH ROW EXECUTE FUNCTION share_lane_making();
