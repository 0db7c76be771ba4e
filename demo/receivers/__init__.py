"""Receivers: real servers of made-up partners, each in a process of its own.

Business of this room: taking in what the hub delivers over SFTP, mail and HTTP, keeping every byte for
comparison, and misbehaving on request until healed. It knows nothing of the hub but the open protocols.

Each is started as `python -m demo.receivers.sftp|smtp|http --folder DIR …` (see `stage` for what they have
in common) or, from a program, by `process.Receiver`.
"""
