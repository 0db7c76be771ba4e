"""The demo's form site: what it makes people fill in, and how it posts it.

Everything in it is invented: persons, words, files. The files are of the kinds that really travel: XML in
two encodings, JSON, PDF.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from demo.plan import World

AT_ONCE = 16
_NAMES = ("Alix Démonstration", "Camille Exemple", "Dominique Essai", "Éloïse Épreuve", "Noël Çà-et-là")
_WEIGHTS = {
    "CERTDC": 15,
    "EtatCivil": 35,
    "recensementCitoyen": 15,
    "depotDossierPACS": 10,
    "JeChangeDeCoordonnees": 15,
    "HebergementTourisme": 10,
}
_ABROAD = "99109"


@dataclass(frozen=True, slots=True)
class File:
    name: str
    type: str
    media_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Form:
    """A submission to post; `files` in the order of their numbers (from 1)."""

    external_id: str
    procedure: str
    facts: dict[str, str]
    files: tuple[File, ...]

    def described(self) -> dict[str, Any]:
        return {
            "external_id": self.external_id,
            "procedure": self.procedure,
            "facts": self.facts,
            "applicant": {"first_name": "Camille", "last_name": "Exemple", "email": "demo@example.org"},
            "attachments": [
                {
                    "name": file.name,
                    "type": file.type,
                    "media_type": file.media_type,
                    "size": len(file.content),
                    "sha256": hashlib.sha256(file.content).hexdigest(),
                }
                for file in self.files
            ],
        }


@dataclass(slots=True)
class Posted:
    """What the form site knows when it is done: the hub's id of each form, by external id."""

    ids: dict[str, str] = field(default_factory=dict)
    repeated: int = 0
    differing_answers: int = 0
    refused: int = 0


def forms(world: World, run: str, count: int, seed: int = 1) -> list[Form]:
    chance = random.Random(seed)
    procedures = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=count)
    return [
        _form(world, f"DEMO-{run}-{n:05d}", procedure, chance) for n, procedure in enumerate(procedures, 1)
    ]


async def post(
    session: aiohttp.ClientSession, url: str, waiting: Sequence[Form], advance: Callable[[], None]
) -> Posted:
    """Post each form; one in twenty twice, as a form site does that lost an answer."""
    posted = Posted()
    left = iter(enumerate(waiting))

    async def clerk() -> None:
        for place, form in left:
            first = await _post_once(session, url, form)
            if first is None:
                posted.refused += 1
            else:
                posted.ids[form.external_id] = first["id"]
                if place % 20 == 7:
                    posted.repeated += 1
                    again = await _post_once(session, url, form)
                    posted.differing_answers += again != first
            advance()

    await asyncio.gather(*(clerk() for _ in range(AT_ONCE)))
    return posted


async def _post_once(session: aiohttp.ClientSession, url: str, form: Form) -> dict[str, Any] | None:
    body = aiohttp.FormData()
    body.add_field("submission", json.dumps(form.described()), content_type="application/json")
    for file in form.files:
        body.add_field("file", file.content, filename=file.name, content_type=file.media_type)
    async with session.post(f"{url}/v1/submissions", data=body) as answer:
        told: dict[str, Any] = await answer.json(content_type=None)
        return told if answer.status == 202 else None


def _form(world: World, external_id: str, procedure: str, chance: random.Random) -> Form:
    return Form(
        external_id,
        procedure,
        _facts(world, procedure, chance),
        tuple(_files(external_id, procedure, chance)),
    )


def _facts(world: World, procedure: str, chance: random.Random) -> dict[str, str]:
    place = _place(world, chance)
    match procedure:
        case "CERTDC":
            return {"commune_deces": place}
        case "EtatCivil":
            nature = chance.choice(("naissance", "mariage", "deces"))
            where = _ABROAD if chance.random() < 0.02 else place
            return {"commune_evenement": where, "nature_acte": nature}
        case "JeChangeDeCoordonnees":
            return {"commune_nouvelle": place, "commune_ancienne": chance.choice(world.communes)}
        case "HebergementTourisme":
            return {"commune_hebergement": place}
        case _:
            return {"commune_residence": place}


def _place(world: World, chance: random.Random) -> str:
    """Mostly a commune of the département; some write a code of before a merger."""
    if chance.random() < 0.05:
        return chance.choice(world.former)
    return chance.choice(world.communes)


def _files(external_id: str, procedure: str, chance: random.Random) -> list[File]:
    if procedure == "CERTDC":
        return [
            _xml(f"{external_id}_DD.xml", "DD", chance, "UTF-8"),
            _pdf(f"{external_id}_DD.pdf", "DD", chance),
            _xml(f"{external_id}_VA.xml", "VA", chance, "UTF-8"),
            _pdf(f"{external_id}_VA.pdf", "VA", chance),
        ]
    if procedure == "HebergementTourisme":
        content = json.dumps({"reference": external_id, "loueur": chance.choice(_NAMES)}, ensure_ascii=False)
        return [File("déclaration.json", "declaration", "application/json", content.encode())]
    encoding = "ISO-8859-1" if chance.random() < 0.3 else "UTF-8"
    files = [_xml(f"{external_id}-{procedure}-doc-flux-1-2.xml", "flux", chance, encoding)]
    if procedure != "EtatCivil" or chance.random() < 0.5:
        files.append(_pdf("Récapitulatif de la demande.pdf", "recapitulatif", chance))
    return files


def _xml(name: str, type: str, chance: random.Random, encoding: str) -> File:
    # An accent in both encodings, and a line end that a careless carrier would change.
    text = (
        f'<?xml version="1.0" encoding="{encoding}"?>\r\n<demande>\r\n'
        f"  <demandeur>{chance.choice(_NAMES)}</demandeur>\r\n"
        + "".join(
            f"  <ligne n='{n}'>{chance.getrandbits(64):x} é</ligne>\n" for n in range(chance.randint(5, 100))
        )
        + "</demande>\n"
    )
    return File(name, type, "application/xml", text.encode(encoding))


def _pdf(name: str, type: str, chance: random.Random) -> File:
    """One page that a reader opens, followed by a stream of incompressible bytes, as a scan is."""
    words = f"BT /F1 14 Tf 60 780 Td (Demonstration {chance.getrandbits(32):08x}) Tj ET".encode()
    scan = chance.randbytes(chance.randint(1_000, 25_000))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(words), words),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(scan), scan),
    ]
    out = bytearray(b"%PDF-1.4\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return File(name, type, "application/pdf", bytes(out))
