-- Editions of the rule book share what they have in common: each item (a procedure's rules, a subscription,
-- a succession, a territory) stands once for all the editions in a row that hold it.

CREATE TABLE rule_book_item (
    kind          text NOT NULL CHECK (kind IN ('procedure', 'subscription', 'succession', 'territory')),
    key           text NOT NULL,               -- unique among its kind within one edition
    first_edition integer NOT NULL,            -- it belongs to the editions first <= number < last
    last_edition  integer,                     -- null: to the newest too
    content       bytea NOT NULL,
    PRIMARY KEY (kind, key, first_edition),
    CHECK (last_edition > first_edition)
);
CREATE UNIQUE INDEX rule_book_item_newest ON rule_book_item (kind, key) WHERE last_edition IS NULL;
-- What is different between two editions begins or ends between them.
CREATE INDEX rule_book_item_first ON rule_book_item (first_edition);
CREATE INDEX rule_book_item_last ON rule_book_item (last_edition) WHERE last_edition IS NOT NULL;

-- An edition's items are gone when nothing was, nor ever will be, decided by it; its row stays, so that the
-- instants of the others keep their meaning.
ALTER TABLE rule_book
    ALTER COLUMN digest DROP NOT NULL,
    ALTER COLUMN content DROP NOT NULL,        -- null: its items say what it holds
    ADD COLUMN pruned_at timestamptz;

-- Whether anything was decided by an edition, asked of each one that is to be pruned: it must not walk through
-- the decisions. Most entries are equal to the last one, so they take little room and no time.
CREATE INDEX decision_snapshot ON decision (snapshot);
