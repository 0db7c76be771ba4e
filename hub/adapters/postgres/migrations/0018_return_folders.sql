-- Return folders: what partners leave where their parcels arrive, and that says what became of them.

-- When each is looked at next. A partner without a row was never looked at.
CREATE TABLE return_folder (
    subscriber    text PRIMARY KEY,
    due_at        timestamptz NOT NULL,
    failing_since timestamptz,                 -- null: the last look went well
    failures      integer NOT NULL DEFAULT 0,  -- looks in a row that did not
    cause         text
);
CREATE INDEX partner_return_folder ON partner (subscriber) WHERE settings ? 'return_directory';

-- Files that lie there and say nothing that could be kept. Which file is a digest of its name, size and time: names
-- may tell of citizens.
CREATE TABLE return_file (
    subscriber text NOT NULL,
    mark       bytea NOT NULL,
    flaw       text NOT NULL,
    seen_at    timestamptz NOT NULL,
    told_at    timestamptz,                    -- null: seen once, and perhaps still being written
    PRIMARY KEY (subscriber, mark)
);
