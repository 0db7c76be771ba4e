-- What a partner asks for, and what operators planned for it.

ALTER TABLE partner
    ADD COLUMN vendor text,                    -- whose software it is served by
    ADD COLUMN pace jsonb,                     -- rate, quiet hours, waits, order, fallback; null: nothing of its own
    ADD COLUMN maintenance jsonb NOT NULL DEFAULT '[]'; -- [{from, until, reason}]: not to be called then
