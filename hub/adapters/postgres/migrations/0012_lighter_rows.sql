-- What a delivery costs: an index less on what is written for each.

-- Lines are found by their submission, and carried elsewhere in the order of transactions.
ALTER TABLE journal DROP CONSTRAINT journal_pkey;

-- Decisions come in the order of the rule book's editions.
DROP INDEX decision_snapshot;
CREATE INDEX decision_snapshot ON decision USING brin (snapshot) WITH (autosummarize = on);

-- A partner's number is written in place.
ALTER TABLE partner SET (fillfactor = 50);
ALTER TABLE lane SET (fillfactor = 50);
