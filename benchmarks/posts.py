"""What a form site posts in the benchmarks: a submission with one file of 1 kB."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

PROCEDURE = "recensementCitoyen"


def form(external_id: str, commune: str) -> dict[str, Any]:
    content = f"<demande numero='{external_id}'>{'x' * 900}</demande>".encode()
    return {
        "external_id": external_id,
        "procedure": PROCEDURE,
        "facts": {"commune_residence": commune},
        "attachments": [
            {
                "name": "demande.xml",
                "type": "formulaire",
                "media_type": "application/xml",
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "content": base64.b64encode(content).decode(),
            }
        ],
    }
