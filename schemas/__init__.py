"""What travels: Avro for the log, JSON for people's requests, and pydantic models for both.

The only knowledge here is of shapes. `hub/wire.py` turns these models into domain values and back.
"""
