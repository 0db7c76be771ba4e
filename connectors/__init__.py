"""Connectors: how parcels leave the hub, one module for each channel.

Business of this room: speaking SFTP, SMTP and HTTP with partners' servers, and turning whatever they do
into an outcome. It decides no retry, keeps no state between calls but open HTTP connections, and knows
nothing of the store. The hub finds these modules by the entry-point group `hub.connectors` only.
"""
