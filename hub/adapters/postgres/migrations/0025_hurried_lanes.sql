-- What waited for an endpoint that serves again waits no longer: what its lane had at `hurried_at` and was to be due until
-- `hurried_to` goes now.
ALTER TABLE lane ADD COLUMN hurried_at timestamptz, ADD COLUMN hurried_to timestamptz;
