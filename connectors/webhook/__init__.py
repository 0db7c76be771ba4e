"""The webhook channel: one signed HTTP request for each parcel, with links to its files.

Business of this room: requests after Standard Webhooks 1.0 (id, timestamp, signatures), tokens where an endpoint asks
for them, and what answers mean. It follows no redirect, keeps no cookie, believes no text. It decides no retry.

`settings` says what an endpoint is told, `trust` whose certificates count, `authorising` where tokens come from,
`message` and `signing` what is sent, `judging` what answers mean, `delivering` brings them together.
"""

from connectors.webhook.delivering import ANSWER, APIECE, AT_ONCE, EVIDENCE, WebhookConnector, connector
from connectors.webhook.judging import judge, judge_token, wait_of
from connectors.webhook.message import body
from connectors.webhook.settings import FIELDS
from connectors.webhook.signing import Signers, headers, signer

__all__ = [
    "ANSWER",
    "APIECE",
    "AT_ONCE",
    "EVIDENCE",
    "FIELDS",
    "Signers",
    "WebhookConnector",
    "body",
    "connector",
    "headers",
    "judge",
    "judge_token",
    "signer",
    "wait_of",
]
