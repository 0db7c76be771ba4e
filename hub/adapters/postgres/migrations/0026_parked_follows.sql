-- What is parked goes with a succession too, as it is: its new partner finds it in its mailbox, and no list of the
-- former one shows it. Notices, which have no number, were for the former partner alone.
CREATE OR REPLACE VIEW following AS
    SELECT id, lane, state, sequence, by_mailbox FROM delivery WHERE due_at IS NOT NULL
    UNION ALL
    SELECT id, lane, state, sequence, by_mailbox FROM delivery WHERE lies
    UNION ALL
    SELECT id, lane, state, sequence, by_mailbox FROM delivery
    WHERE due_at IS NULL AND cause IS NOT NULL AND state = 'parked' AND sequence > 0;

UPDATE lane SET due_at = LEAST(due_at, succession_wakes(id)) WHERE moves_at IS NOT NULL;
