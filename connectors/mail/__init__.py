"""The mail channel (courriel): `connector` is its entry point; `judge` says what a mail server's faults and answers
mean."""

from connectors.mail.delivering import connector
from connectors.mail.judging import judge

__all__ = ["connector", "judge"]
