-- A claim is written beside the row it claims, in its page, so that it touches no index.
ALTER TABLE delivery SET (fillfactor = 60);
