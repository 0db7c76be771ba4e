-- Letters that are written again for what was accepted and is not decided: when the log began a new life, and when
-- something was lost on the way.

CREATE TABLE log_life (
    single        boolean PRIMARY KEY DEFAULT true CHECK (single),
    life          text NOT NULL DEFAULT '',                  -- the one that letters were last written again for
    decided_until timestamptz NOT NULL DEFAULT '-infinity'   -- what was received before is decided
);
INSERT INTO log_life DEFAULT VALUES;
