"""Acknowledgement files: two forms of XML, and what is none of both."""

from __future__ import annotations

from uuid import UUID

import pytest

from connectors.acknowledgements import LARGEST, WORDS, Unreadable, read_acknowledgement
from hub.domain.cases import CaseStatus
from hub.domain.reports import ReturnedFile
from hub.ports.returns import Acknowledgement

DELIVERY = UUID("5f0c1d9e-8a52-5b7d-9e8f-1a2b3c4d5e6f")
PEC = 'xmlns:ns2="http://finances.gouv.fr/dgme/pec/message/v1"'


def own(inside: str) -> bytes:
    return f"<acquittement>{inside}</acquittement>".encode()


def state(content: str, name: str = f"A-9-X3UGO4V7 {DELIVERY} Principal 2026-07-03T16:26:41") -> bytes:
    return (
        f"<ns2:Message {PEC}><ns2:Header><ns2:Routing><ns2:MessageId>{name}</ns2:MessageId>"
        "<ns2:AckType>AVL</ns2:AckType><ns2:AckType>ANL</ns2:AckType></ns2:Routing></ns2:Header>"
        f"<ns2:Body><ns2:Content>{content}</ns2:Content></ns2:Body></ns2:Message>"
    ).encode()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            own(f"<remise>{DELIVERY}</remise><statut>DONE</statut>"),
            Acknowledgement(DELIVERY, status=CaseStatus.DONE),
        ),
        (
            own("<numero>A-9</numero><demarche>EtatCivil</demarche><message> Venez. </message>"),
            Acknowledgement(None, "A-9", "EtatCivil", message="Venez."),
        ),
        (
            '<?xml version="1.0" encoding="ISO-8859-1"?><acquittement><numero>A</numero>'
            "<message>Reçu à l'état civil</message></acquittement>".encode("latin-1"),
            Acknowledgement(None, "A", message="Reçu à l'état civil"),
        ),
        (
            own(f"<remise>{DELIVERY}</remise><fichier> acte.pdf </fichier>"),
            Acknowledgement(DELIVERY, document=ReturnedFile("acte.pdf", "application/pdf")),
        ),
        (
            own(
                f"<remise>{DELIVERY}</remise><fichier>x.é</fichier>"
                f"<taille>12</taille><empreinte>{'aB' * 32}</empreinte>"
            ),
            Acknowledgement(
                DELIVERY, document=ReturnedFile("x.é", "application/octet-stream", 12, "ab" * 32)
            ),
        ),
        (state("<ns2:AVL/>"), Acknowledgement(DELIVERY, status=CaseStatus.SI_RECEIVED)),
        (state("<ns2:ANL/>"), Acknowledgement(DELIVERY, status=CaseStatus.SI_INTG_ERROR)),
        (
            state(
                "<ns2:Retour><NumeroTeledemarche>A-9</NumeroTeledemarche><Instruction><Maj><Etat>17</Etat>"
                "<Commentaire>Il manque une pièce</Commentaire></Maj></Instruction></ns2:Retour>",
                "autre",
            ),
            Acknowledgement(None, "A-9", status=CaseStatus.ADD_AWAITING, message="Il manque une pièce"),
        ),
    ],
    ids=[
        "own",
        "own-by-number",
        "latin-1",
        "document",
        "whole-document",
        "delivered",
        "not-delivered",
        "state-of-a-case",
    ],
)
def test_what_a_file_says_is_read(content: bytes, expected: Acknowledgement) -> None:
    assert read_acknowledgement(content) == expected


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no_xml"),
        (b"<acquittement><remise>", "no_xml"),
        (b"\x00\xff<acquittement/>", "no_xml"),
        (b'<?xml version="1.0" encoding="no-such"?><acquittement/>', "no_xml"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><acquittement><numero>&b;</numero></acquittement>', "no_xml"),
        (
            b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><acquittement><numero>A</numero></acquittement>',
            "no_xml",
        ),
        (b"<autre/>", "unknown_form"),
        (own("<statut>DONE</statut>"), "no_delivery"),
        (own("<remise>17</remise><statut>DONE</statut>"), "no_delivery"),
        (own(f"<numero>{'x' * 200}</numero><statut>DONE</statut>"), "no_delivery"),
        (own(f"<remise>{DELIVERY}</remise>"), "says_nothing"),
        (own(f"<remise>{DELIVERY}</remise><statut>FINI</statut>"), "unknown_status"),
        (own(f"<remise>{DELIVERY}</remise><message>{'x' * 1001}</message>"), "long_message"),
        (own(f"<remise>{DELIVERY}</remise>" + " " * LARGEST), "too_large"),
        (own(f"<remise>{DELIVERY}</remise><fichier>/etc/passwd</fichier>"), "document_name"),
        (own(f"<remise>{DELIVERY}</remise><fichier>..\\a</fichier>"), "document_name"),
        (own(f"<remise>{DELIVERY}</remise><statut>DONE</statut><taille>12</taille>"), "document_name"),
        (own(f"<remise>{DELIVERY}</remise><fichier>a</fichier><taille>1e3</taille>"), "document_size"),
        (state("<ns2:AVL/><ns2:ANL/>"), "says_nothing"),
        *(
            (own(f"<remise>{DELIVERY}</remise><fichier>a.pdf</fichier>{twice}"), "said_twice")
            for twice in (
                "<fichier>b.pdf</fichier>",
                f"<remise>{DELIVERY}</remise>",
                "<statut>DONE</statut><statut>DONE</statut>",
                "<statut/><statut>DONE</statut>",
                "<message>a</message><message>b</message>",
                "<numero>1</numero><numero>2</numero>",
                "<demarche>a</demarche><demarche>b</demarche>",
                "<taille>1</taille><taille>2</taille>",
                f"<empreinte>{'0' * 64}</empreinte>" * 2,
            )
        ),
        (state("<Retour><Etat>19</Etat></Retour><Retour><Etat>20</Etat></Retour>"), "said_twice"),
        (state("<Retour><Etat>19</Etat><Etat>20</Etat></Retour>"), "said_twice"),
        (
            state("<Retour><Etat>19</Etat></Retour></ns2:Content><ns2:Content><ns2:ANL/>"),
            "said_twice",
        ),
        (b"<a>" * 5000 + b"</a>" * 5000, "unknown_form"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_nobody_can_read_says_why_in_a_word_of_ours(content: bytes, why: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_acknowledgement(content)
    assert str(caught.value) == why


def test_what_is_no_word_of_the_form_may_stand_twice() -> None:
    read = read_acknowledgement(
        own(f"<remise>{DELIVERY}</remise><statut>DONE</statut><note>a</note><note>b</note>")
    )
    assert read == Acknowledgement(DELIVERY, status=CaseStatus.DONE)
    same = state("<Retour><Maj><Etat>19</Etat></Maj><Maj><Etat>19</Etat></Maj></Retour>")
    assert read_acknowledgement(same) == Acknowledgement(DELIVERY, status=CaseStatus.DONE)


def test_every_status_a_partner_may_report_has_a_word() -> None:
    assert set(WORDS.values()) == set(CaseStatus)
