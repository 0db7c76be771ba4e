"""The store in PostgreSQL. Every transaction over several rows takes them in one fixed order of tables (submission,
upload, lane, partner, delivery), each sorted by key, and is run again when the database breaks a deadlock.
"""
