"""What the channel asks of an endpoint: its fields."""

from __future__ import annotations

from connectors.layouts import LAYOUTS
from connectors.sftp.certificates import until_it_ends
from hub.domain.fields import Field, FieldKind

READ_BACK = 64 * 1024 * 1024
RETURN_MAX_SIZE = 25_000_000

_ADDRESS = (
    Field(
        "host",
        FieldKind.HOST,
        required=True,
        fr="Nom ou adresse du serveur SFTP.",
        en="Name or address of the SFTP server.",
    ),
    Field(
        "port",
        FieldKind.NUMBER,
        default=22,
        least=1,
        most=65535,
        fr="Port du serveur.",
        en="Port of the server.",
    ),
    Field(
        "username",
        FieldKind.TEXT,
        required=True,
        fr="Compte sur ce serveur.",
        en="Account on that server.",
    ),
    Field(
        "host_key",
        FieldKind.BLOCK,
        required=True,
        must="must be OpenSSH public keys, fingerprints (SHA256:…) or known_hosts lines of this host, one a line",
        fr="Clé publique du serveur au format OpenSSH, son empreinte (SHA256:…) ou ses lignes de known_hosts "
        "(@cert-authority et @revoked compris) ; plusieurs lignes pendant un changement. Rien d'autre n'est accepté.",
        en="The server's public key in OpenSSH's format, its fingerprint (SHA256:…) or its lines of known_hosts "
        "(@cert-authority and @revoked too); several lines while it is changed. Nothing else is believed.",
    ),
    Field(
        "algorithms",
        FieldKind.CHOICE,
        choices=("modern", "legacy"),
        default="modern",
        fr="legacy : accepter aussi des algorithmes affaiblis (SHA-1, CBC), pour un serveur qui n'en a pas d'autres.",
        en="legacy: weakened algorithms (SHA-1, CBC) are accepted too, for a server that knows no others.",
    ),
    Field(
        "private_key",
        FieldKind.BLOCK,
        secret=True,
        unless=("password",),
        must="must be an OpenSSH private key without a passphrase",
        fr="Clé privée du compte, au format OpenSSH, sans phrase secrète.",
        en="The account's private key, in OpenSSH's format, without a passphrase.",
    ),
    Field(
        "certificate",
        FieldKind.BLOCK,
        until=until_it_ends,
        needs=("private_key",),
        fr="Certificat OpenSSH de cette clé, signé par une autorité que le serveur reconnaît.",
        en="OpenSSH certificate of that key, by an authority which the server believes.",
    ),
    Field(
        "password",
        FieldKind.TEXT,
        secret=True,
        fr="Mot de passe du compte, où il n'y a pas de clé privée.",
        en="The account's password, where there is no private key.",
    ),
)

_JUMP = (
    Field(
        "jump_host",
        FieldKind.HOST,
        needs=("jump_username", "jump_host_key"),
        fr="Serveur SSH de rebond, par lequel le serveur SFTP est atteint ; host est alors le nom vu de là.",
        en="SSH server to jump through, from which the SFTP server is reached; host is then its name as seen there.",
    ),
    Field(
        "jump_port",
        FieldKind.NUMBER,
        default=22,
        least=1,
        most=65535,
        needs=("jump_host",),
        fr="Port du serveur de rebond.",
        en="Port of the server to jump through.",
    ),
    Field(
        "jump_username",
        FieldKind.TEXT,
        needs=("jump_host",),
        fr="Compte sur le serveur de rebond.",
        en="Account on the server to jump through.",
    ),
    Field(
        "jump_host_key",
        FieldKind.BLOCK,
        needs=("jump_host",),
        fr="Clé publique du serveur de rebond, comme host_key.",
        en="Public key of the server to jump through, as host_key.",
    ),
    Field(
        "jump_private_key",
        FieldKind.BLOCK,
        secret=True,
        needs=("jump_host",),
        fr="Clé privée du compte de rebond, au format OpenSSH, sans phrase secrète.",
        en="Private key of the account to jump through, in OpenSSH's format, without a passphrase.",
    ),
    Field(
        "jump_password",
        FieldKind.TEXT,
        secret=True,
        needs=("jump_host",),
        fr="Mot de passe du compte de rebond, où il n'y a pas de clé privée.",
        en="Password of the account to jump through, where there is no private key.",
    ),
)

_PLACE = (
    Field(
        "directory",
        FieldKind.TEXT,
        default=".",
        must="must be a folder, in which {procedure}, {date} and {partner} may stand",
        fr="Dossier où les plis arrivent, tel que le compte le voit ; {procedure}, {date} (jour de réception) et "
        "{partner} y sont remplacés.",
        en="Folder where parcels arrive, as the account sees it; {procedure}, {date} (day of receipt) and {partner} "
        "are filled in.",
    ),
    Field(
        "make_directories",
        FieldKind.FLAG,
        default=False,
        fr="Créer les dossiers qui manquent.",
        en="Make folders that are missing.",
    ),
    Field(
        "layout",
        FieldKind.CHOICE,
        choices=tuple(LAYOUTS),
        default="folder",
        fr="Présentation d'un pli : un dossier, un zip, ou le zip de service-public.",
        en="How a parcel lies there: a folder, a zip, or the zip of service-public.",
    ),
    Field(
        "end_marker",
        FieldKind.TEXT,
        pattern=r"[A-Za-z0-9._-]{1,60}",
        must="must be a suffix that begins with a dot, or a file's name, of letters, digits, dot, hyphen, underscore",
        fr="Fichier vide écrit après le pli : un suffixe ajouté à son nom (.ok), ou un nom dans son dossier (fin.txt).",
        en="Empty file that is written behind a parcel: a suffix to its name (.ok), or a name in its folder (end.txt).",
    ),
    Field(
        "read_back",
        FieldKind.NUMBER,
        default=READ_BACK,
        least=0,
        most=2**40,
        fr="Taille, en octets, jusqu'à laquelle un pli déjà présent est relu et comparé ; au-delà, sa taille suffit.",
        en="Bytes up to which a parcel that is there already is read back and compared; above, its size decides.",
    ),
    Field(
        "sender_siret",
        FieldKind.TEXT,
        pattern=r"[0-9]{14}",
        must="must be 14 digits",
        fr="SIRET de l'émetteur, écrit dans message.xml (présentation service-public).",
        en="SIRET of who sends, as message.xml tells it (layout service-public).",
    ),
    Field(
        "sender_service",
        FieldKind.TEXT,
        default="AIGUILLAGE",
        most=60,
        fr="Service de l'émetteur, écrit dans message.xml.",
        en="Service of who sends, as message.xml tells it.",
    ),
    Field(
        "sender_mail",
        FieldKind.MAIL,
        fr="Expéditeur du courriel que le logiciel du partenaire envoie d'après message.xml ; sans lui, aucun.",
        en="From whom the partner's software mails what message.xml says; without it, nothing.",
    ),
)

_WAY_BACK = (
    Field(
        "return_directory",
        FieldKind.TEXT,
        fr="Dossier où le partenaire dépose ses acquittements, et les documents qu'ils renvoient.",
        en="Folder where the partner leaves its acknowledgements, and the documents that they return.",
    ),
    Field(
        "return_max_size",
        FieldKind.NUMBER,
        default=RETURN_MAX_SIZE,
        least=0,
        most=2**30,
        needs=("return_directory",),
        fr="Taille, en octets, d'un document renvoyé, au plus.",
        en="Bytes of a document that is returned, at most.",
    ),
    Field(
        "return_kept",
        FieldKind.TEXT,
        needs=("return_directory",),
        fr="Dossier où vont les acquittements une fois lus ; sans lui, ils sont supprimés.",
        en="Folder where acknowledgements go once they are read; without it, they are removed.",
    ),
)

FIELDS = (*_ADDRESS, *_JUMP, *_PLACE, *_WAY_BACK)
