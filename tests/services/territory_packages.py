"""A package of a few made-up places, as npm would pack it."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

README = """
| Année | Version du package | NPM |
|-------|--------------------|-----|
| 2031  | 11.0.0             | npm |

Données : [Licence Ouverte](https://www.etalab.gouv.fr/licence-ouverte-open-licence)\\
Code : MIT
"""


def commune(code: str, **more: object) -> dict[str, object]:
    known: dict[str, object] = {
        "code": code,
        "nom": f"Ville {code}",
        "zone": "metro",
        "type": "commune-actuelle",
    }
    return known | {"departement": "01", "region": "84"} | more


def small_package() -> dict[str, object]:
    """Of 2031, version 11.0.0: by path, what is JSON or text."""
    return {
        "package.json": {"name": "@etalab/decoupage-administratif", "version": "11.0.0"},
        "README.md": README,
        "data/regions.json": [{"code": "84", "nom": "Auvergne-Rhône-Alpes"}],
        "data/departements.json": [{"code": "01", "nom": "Ain", "region": "84"}],
        "data/epci.json": [
            {
                "code": "200000172",
                "nom": "CC Faucigny - Glières",
                "type": "CC",
                "membres": [{"code": "01001", "siren": "210100012"}],
            }
        ],
        "data/communes.json": [
            commune("01002", anciensCodes=["01004", "01003"]),
            commune("01001", siren="210100012", population=860),
            commune("01003", type="commune-deleguee", chefLieu="01002"),
            commune("01005", type="arrondissement-municipal", commune="01001"),
        ],
    }


def tarball(contents: dict[str, object], *, prefix: str = "package/", mtime: int = 1_900_000_000) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for name, value in contents.items():
            content = value.encode() if isinstance(value, str) else json.dumps(value).encode()
            member = tarfile.TarInfo(prefix + name)
            member.size, member.mtime = len(content), mtime
            archive.addfile(member, io.BytesIO(content))
    # Packed in another second, it is the same to the byte.
    return gzip.compress(whole.getvalue(), mtime=mtime)
