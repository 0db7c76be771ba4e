-- What a partner asks for, and what operators planned for it.

ALTER TABLE partner
    ADD COLUMN vendor text,                    -- whose software it is served by
    ADD COLUMN pace jsonb,                     -- rate, quiet hours, waits, order, fallback; null: nothing of its own
    ADD COLUMN maintenance jsonb;              -- [{from, until, reason}]: not to be called then; null: none

-- A partner's channel of today takes over from its others, which rows were left in until now.
UPDATE lane SET left_for = today.id, due_at = CASE WHEN EXISTS (
        SELECT FROM delivery WHERE delivery.lane = lane.id AND delivery.due_at IS NOT NULL
    ) THEN clock_timestamp() ELSE lane.due_at END
FROM partner JOIN lane AS today USING (subscriber, channel)
WHERE lane.subscriber = partner.subscriber AND lane.id <> today.id AND lane.channel <> 'mailbox';
