"""Derives the compact dataset of a vintage from the npm package @etalab/decoupage-administratif.

Business of this file: taking the few files it needs out of the package, refusing what contradicts itself,
and giving what the hub routes by, always in the same bytes for the same package. Fetching the package and
keeping the result are `vintages`'; reading it is `territory`'s. The package says more (postal codes,
sous-préfectures): what is no routing key is left out. Its versions from 2.3 (2022) on have this shape.

A commune's région is not written: it is that of its département, which is checked here.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from hub.adapters.rules.territory import FORMAT, unpacked
from hub.domain.errors import RuleBookError
from hub.domain.partner import is_siren

PACKAGE = "@etalab/decoupage-administratif"

_WANTED = {
    "package/package.json": "package",
    "package/README.md": "readme",
    "package/data/regions.json": "regions",
    "package/data/departements.json": "departements",
    "package/data/epci.json": "epci",
    "package/data/communes.json": "communes",
}
# Twice what the largest package so far unpacks to; beyond it somebody sends something else.
_MOST_BYTES = 45_000_000
_MOST_OF_ONE = 20_000_000
_MOST_MEMBERS = 200

_KINDS = {
    "commune-actuelle": "commune",
    "commune-deleguee": "commune_deleguee",
    "commune-associee": "commune_associee",
    "arrondissement-municipal": "arrondissement",
}
_ORDER = ("region", "departement", "epci", *_KINDS.values())

Line = tuple[str, ...]
Record = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Package:
    """What is taken from it. `year` is the vintage its data are of, a whole year."""

    version: str
    year: str
    licence: str
    dated: date
    """The day the communes' file bears inside the package."""
    sha256: str
    sha512: str
    """As npm writes an integrity: base64, named."""
    regions: Sequence[Record]
    departements: Sequence[Record]
    epci: Sequence[Record]
    communes: Sequence[Record]


def opened(tarball: bytes) -> Package:
    """Raises RuleBookError when this is not the package, or it does not state its year or licence."""
    files, dated = _members(tarball)
    description = _json(files, "package")
    if not isinstance(description, dict) or description.get("name") != PACKAGE:
        raise RuleBookError(f"package.json does not name {PACKAGE}")
    version = description.get("version")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise RuleBookError("package.json does not say its version")
    try:
        readme = files["readme"].decode("utf-8")
    except UnicodeDecodeError:
        raise RuleBookError("README.md is not UTF-8") from None
    licence = re.search(
        r"^Données\s*:\s*\[(Licence Ouverte[^\]\x00-\x1f]*)\]\((https://[^)\s]+)\)", readme, re.MULTILINE
    )
    if licence is None:
        raise RuleBookError("README.md does not put the data under the Licence Ouverte")
    return Package(
        version,
        _year(readme, version),
        f"{licence[1]} ({licence[2]})",
        dated,
        hashlib.sha256(tarball).hexdigest(),
        "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode("ascii"),
        *(_records(files, key) for key in ("regions", "departements", "epci", "communes")),
    )


_VERSION = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}")
_OF_A_YEAR = re.compile(r"^\|\s*([0-9]{4})\s*\|\s*([0-9.]+)\s*\|", re.MULTILINE)


def _year(readme: str, version: str) -> str:
    """By the README's table of years and versions. It lags behind now and then (5.2.0 bears that of 5.0.2):
    then by the major number, which is given anew for each year."""
    rows: list[tuple[str, str]] = _OF_A_YEAR.findall(readme)
    exact = {year for year, theirs in rows if theirs == version}
    alike = {year for year, theirs in rows if theirs.partition(".")[0] == version.partition(".")[0]}
    years = exact or alike
    if len(years) != 1:
        raise RuleBookError(f"README.md does not say of which year version {version} is")
    return years.pop()


def _members(tarball: bytes) -> tuple[dict[str, bytes], date]:
    """The wanted files, read in memory: nothing is ever unpacked to a path the archive chooses."""
    files: dict[str, bytes] = {}
    dated = date.min
    total = 0
    try:
        # Unpacked first, and bounded: the tar reader takes a member's own headers whole, whatever their size.
        whole = io.BytesIO(b"".join(unpacked(tarball, _MOST_BYTES)))
        with tarfile.open(fileobj=whole, mode="r:") as archive:
            for number, member in enumerate(archive):
                total += member.size
                if total > _MOST_BYTES or member.size > _MOST_OF_ONE or number >= _MOST_MEMBERS:
                    raise RuleBookError("the archive is larger than the package can be")
                key = _WANTED.get(member.name)
                if key is None:
                    continue
                content = archive.extractfile(member) if member.isreg() else None
                if content is None or key in files:
                    raise RuleBookError(f"{member.name} is no plain file, or there twice")
                files[key] = content.read()
                if key == "communes":
                    dated = datetime.fromtimestamp(member.mtime, UTC).date()
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError) as error:
        raise RuleBookError("not a tar archive, or a damaged one") from error
    missing = sorted(set(_WANTED.values()) - files.keys())
    if missing:
        raise RuleBookError(f"the archive lacks {', '.join(missing)}")
    return files, dated


def _json(files: Mapping[str, bytes], key: str) -> object:
    try:
        value: object = json.loads(files[key])
    except (ValueError, RecursionError):
        raise RuleBookError(f"{key} is not JSON") from None
    return value


def _records(files: Mapping[str, bytes], key: str) -> Sequence[Record]:
    value = _json(files, key)
    if not isinstance(value, list) or not all(isinstance(record, dict) for record in value):
        raise RuleBookError(f"{key} is not a list of records")
    return value


def derived(package: Package, vintage: str) -> list[Line]:
    """The rows of the dataset: its head, then places, each after those it names and sorted by code. Raises
    RuleBookError when the package's files do not agree with each other."""
    regions = _keyed(package.regions, "region")
    departements = _keyed(package.departements, "departement")
    epcis = _keyed(package.epci, "epci")
    lines: list[Line] = [("region", code, _text(row, "nom")) for code, row in regions.items()]
    for code, row in departements.items():
        lines.append(("departement", code, _text(row, "nom"), _known(row, "region", regions)))
    for code, row in epcis.items():
        lines.append(("epci", _siren(code), _text(row, "nom"), _text(row, "type")))
    lines += _communes(package.communes, departements, epcis)
    counts = Counter(line[0] for line in lines)
    if sum(counts[kind] for kind in _KINDS.values()) != len(package.communes):
        raise RuleBookError("communes.json holds a type that is not known here")
    lines.sort(key=lambda line: (_ORDER.index(line[0]), line[1]))
    return [
        ("about", "format", FORMAT),
        ("about", "vintage", vintage),
        ("about", "source", PACKAGE),
        ("about", "version", package.version),
        ("about", "dated", package.dated.isoformat()),
        ("about", "licence", package.licence),
        ("about", "sha256", package.sha256),
        ("about", "sha512", package.sha512),
        *(("count", kind, str(counts[kind])) for kind in _ORDER),
        *lines,
    ]


def _communes(
    records: Sequence[Record], departements: Mapping[str, Record], epcis: Mapping[str, Record]
) -> Iterable[Line]:
    of_type = {
        kind: _keyed((row for row in records if row.get("type") == theirs), kind)
        for theirs, kind in _KINDS.items()
    }
    communes = of_type["commune"]
    members = _memberships(epcis, communes)
    for code, row in communes.items():
        departement = _known(row, "departement", departements)
        if row.get("region") != departements[departement].get("region"):
            raise RuleBookError(f"commune {code} is in another région than its département")
        siren = _siren(_text(row, "siren")) if "siren" in row else ""
        name, zone, former = _text(row, "nom"), _text(row, "zone"), " ".join(_former(row))
        yield (
            "commune",
            code,
            name,
            departement,
            members.get(code, ""),
            siren,
            _population(row),
            zone,
            former,
        )
    for kind in ("commune_deleguee", "commune_associee", "arrondissement"):
        whole = "commune" if kind == "arrondissement" else "chefLieu"
        for code, row in of_type[kind].items():
            yield (kind, code, _text(row, "nom"), _known(row, whole, communes))


def _memberships(epcis: Mapping[str, Record], communes: Mapping[str, Record]) -> dict[str, str]:
    """Which EPCI each commune is a member of; the source lists it the other way round."""
    found: dict[str, str] = {}
    for siren, epci in epcis.items():
        members = epci.get("membres")
        if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
            raise RuleBookError(f"epci {siren} has no list of members")
        for member in members:
            code = _known(member, "code", communes)
            if code in found:
                raise RuleBookError(f"commune {code} is a member of {found[code]} and of {siren}")
            if member.get("siren") != communes[code].get("siren"):
                raise RuleBookError(f"commune {code} has one SIREN in communes.json, another in epci.json")
            found[code] = siren
    return found


def _keyed(records: Iterable[Record], kind: str) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for record in records:
        code = _text(record, "code")
        if code in found:
            raise RuleBookError(f"{kind} {code} stands twice")
        found[code] = record
    return found


def _text(record: Record, key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value or not value.isprintable():
        raise RuleBookError(f"{key} of {record.get('code')!r:.20} is not a line of text")
    return value


def _known(record: Record, key: str, others: Mapping[str, Record]) -> str:
    code = _text(record, key)
    if code not in others:
        raise RuleBookError(f"{key} of {record.get('code')!r:.20} is {code!r:.20}, which is not there")
    return code


def _siren(text: str) -> str:
    if not is_siren(text):
        raise RuleBookError(f"{text!r:.20} is no SIREN")
    return text


def _population(record: Record) -> str:
    """Empty where the source counts nobody: the southern lands and Clipperton."""
    population = record.get("population")
    if population is None:
        return ""
    if type(population) is not int or population < 0:
        raise RuleBookError(f"population of {record.get('code')!r:.20} is no number of people")
    return str(population)


def _former(record: Record) -> list[str]:
    codes = record.get("anciensCodes", [])
    if not isinstance(codes, list) or not all(isinstance(code, str) and code.isalnum() for code in codes):
        raise RuleBookError(f"anciensCodes of {record.get('code')!r:.20} is no list of codes")
    return sorted(codes)


def packed(lines: Iterable[Line]) -> bytes:
    """The same bytes for the same lines: the gzip head bears no time and no name."""
    text = "".join("\t".join(line) + "\n" for line in lines)
    whole = io.BytesIO()
    # Not gzip.compress: some Python versions let it write the operating system into the head.
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=whole, mtime=0) as file:
        file.write(text.encode("utf-8"))
    return whole.getvalue()
