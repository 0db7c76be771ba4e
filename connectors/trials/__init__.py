"""Trials (essais): an endpoint tried step by step, without a parcel, leaving nothing behind.

Business of this room: what is looked at on each channel, and how it is said. Connections are those the connectors use,
and what a fault means is said by the same `judge`.
"""
