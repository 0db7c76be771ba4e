-- The journal is carried to the log, in an order that no later commit changes: by transaction, as soon as no
-- earlier one is still at work.

ALTER TABLE journal ADD COLUMN written_by xid8 NOT NULL DEFAULT pg_current_xact_id();
CREATE INDEX journal_written ON journal (written_by, id);

-- The last line that was carried. No row: nobody carried any yet.
CREATE TABLE journal_carried (
    single     boolean PRIMARY KEY DEFAULT true CHECK (single),
    written_by xid8 NOT NULL,
    id         bigint NOT NULL
);
