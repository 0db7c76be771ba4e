-- Replays as an operation: approved above a threshold, paced, paused, by the rules of then or of today; and what
-- decisions anew meant for the deliveries that were there.

ALTER TABLE decision
    ADD COLUMN author text,                    -- who decided by hand, or ordered the replay; null: the router
    ADD COLUMN replay uuid;
CREATE INDEX decision_not_routed ON decision (verdict, submission) WHERE verdict <> 'routed';

ALTER TABLE replay
    ADD COLUMN rules       text NOT NULL DEFAULT 'then' CHECK (rules IN ('then', 'today')),
    ADD COLUMN state       text NOT NULL DEFAULT 'running'
        CHECK (state IN ('awaiting_approval', 'running', 'paused', 'finished', 'cancelled')),
    ADD COLUMN bytes       bigint NOT NULL DEFAULT 0,
    ADD COLUMN rate        double precision,   -- deliveries a second; null: as fast as it goes
    ADD COLUMN credit      double precision NOT NULL DEFAULT 1, -- deliveries it may send as of treated_at
    ADD COLUMN treated_at  timestamptz NOT NULL DEFAULT clock_timestamp(), -- its last page
    ADD COLUMN approved_by text,
    ADD COLUMN approved_at timestamptz,
    ADD COLUMN revised     integer NOT NULL DEFAULT 0, -- next revisions planned
    ADD COLUMN planned     integer NOT NULL DEFAULT 0, -- chosen for the first time
    ADD COLUMN withdrawn   integer NOT NULL DEFAULT 0,
    ADD COLUMN unchanged   integer NOT NULL DEFAULT 0;
UPDATE replay SET state = 'finished' WHERE finished_at IS NOT NULL;
DROP INDEX replay_unfinished;
CREATE INDEX replay_running ON replay (treated_at) WHERE state = 'running';

-- An item is a delivery, with the sending that is to be repeated; or, without one, a whole submission.
ALTER TABLE replay_item ADD COLUMN submission uuid;
UPDATE replay_item SET submission = delivery.submission FROM delivery WHERE delivery.id = replay_item.delivery;
ALTER TABLE replay_item
    ALTER COLUMN submission SET NOT NULL,
    DROP CONSTRAINT replay_item_pkey,
    ALTER COLUMN delivery DROP NOT NULL,
    ALTER COLUMN sending DROP NOT NULL;
CREATE UNIQUE INDEX replay_item_once ON replay_item (replay, submission, delivery) NULLS NOT DISTINCT;
DROP INDEX replay_item_pending;
CREATE INDEX replay_item_pending ON replay_item (replay, submission) WHERE state = 'pending';

-- What a decision no longer names. Whether its partner had received it already, or did so after all, the
-- delivery itself says.
CREATE TABLE no_longer_named (
    delivery   uuid NOT NULL,
    decision   integer NOT NULL,               -- the number of the first that does not
    submission uuid NOT NULL,
    replay     uuid,                           -- null: by hand
    subscriber text NOT NULL,                  -- with whom it lay
    sending    integer NOT NULL,               -- the one it was in then
    received   boolean NOT NULL,               -- before that decision
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (delivery, decision)
);
CREATE INDEX no_longer_named_replay ON no_longer_named (replay, delivery);
