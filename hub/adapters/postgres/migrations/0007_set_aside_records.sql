-- Records of the log that nobody could read: where they lie and why, for operators. Never their bytes.

CREATE TABLE set_aside_record (
    topic       text    NOT NULL,
    life        text    NOT NULL,      -- of the topic: in each, offsets count anew
    partition   integer NOT NULL,
    "offset"    bigint  NOT NULL,
    reason      text    NOT NULL,
    size        bigint  NOT NULL,      -- bytes of its value
    at          timestamptz NOT NULL,
    submission  uuid,                  -- what its key names, which need not have been accepted
    PRIMARY KEY (topic, life, partition, "offset")
);
CREATE INDEX set_aside_record_at ON set_aside_record (at);
