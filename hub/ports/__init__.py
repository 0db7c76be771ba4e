"""What the hub's rooms ask of the world: ports of a few verbs, each with one conformance suite.

Those of the store, the system of record, are one small port for each room of the journey, so that a room sees only
its own verbs. All speak in batches; each verb is one transaction, durable when it returns. Times are the database's
clock: callers hand in durations.
"""
