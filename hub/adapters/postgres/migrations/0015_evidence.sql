-- What a partner's server answered to an attempt, sealed under the key of its submission: with that key destroyed, nobody
-- can read it. Null where it said nothing.
ALTER TABLE journal ADD COLUMN answer bytea;
