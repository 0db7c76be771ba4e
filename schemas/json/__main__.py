"""`python -m schemas.json`: writes the published JSON Schemas as the models give them today."""

from __future__ import annotations

from schemas.json import MODELS, generated, published

if __name__ == "__main__":
    for name in MODELS:
        published(name).write_text(generated(name), "utf-8")
