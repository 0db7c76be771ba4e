"""The territory's dataset: what the file of 2026 holds, what a damaged file says, how one is derived."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import routing_rules.territory
from hub.adapters.rules.territory import load_territory
from hub.domain.errors import RuleBookError, SettingsError
from hub.domain.partner import is_siren
from hub.domain.territory import Commune, Place, PlaceType, Territory, Zone
from routing_rules.territory import derive

DATASET = Path(routing_rules.territory.__file__).with_name("2026.tsv.gz")


@pytest.fixture(scope="module")
def territory() -> Territory:
    return load_territory(DATASET)


@pytest.fixture(scope="module")
def rows() -> list[list[str]]:
    return [line.split("\t") for line in gzip.decompress(DATASET.read_bytes()).decode().splitlines()]


@pytest.fixture(scope="module")
def communes(territory: Territory) -> list[Commune]:
    found = [territory.commune(place.code) for place in territory.communes()]
    return [commune for commune in found if commune is not None]


def reached(territory: Territory, code: str, type: PlaceType | None = None) -> tuple[str, ...]:
    resolution = territory.resolve(code, type)
    assert resolution is not None
    return (str(resolution.place), *(step.rule.value for step in resolution.steps))


def test_the_dataset_of_2026_has_as_many_places_as_its_source(rows: list[list[str]]) -> None:
    assert {
        kind: found
        for kind, found in Counter(row[0] for row in rows).items()
        if kind not in {"about", "count"}
    } == {
        "region": 26,
        "departement": 109,
        "epci": 1_255,
        "commune": 34_969,
        "commune_deleguee": 2_105,
        "commune_associee": 471,
        "arrondissement": 45,
    }


def test_the_dataset_of_2026_says_what_it_was_derived_from(
    territory: Territory, rows: list[list[str]]
) -> None:
    about = {row[1]: row[2] for row in rows if row[0] == "about"}
    assert territory.vintage == about["vintage"] == "2026"
    assert (about["source"], about["version"]) == ("@etalab/decoupage-administratif", "6.0.0")
    assert about["licence"].startswith("Licence Ouverte")
    described = DATASET.with_name("SOURCE.md").read_text(encoding="utf-8")
    assert all(about[key] in described for key in ("version", "licence", "sha256", "sha512"))


def test_every_commune_but_those_of_overseas_collectivities_has_a_siren_of_its_own(
    communes: list[Commune],
) -> None:
    sirens = [commune.siren for commune in communes if commune.siren is not None]
    assert len(sirens) == len(set(sirens)) == 34_875
    assert all(map(is_siren, sirens))
    assert Counter(commune.zone for commune in communes if commune.siren is None) == {Zone.COM: 94}


def test_every_epci_is_named_by_a_siren_that_can_be_true(rows: list[list[str]]) -> None:
    assert all(is_siren(row[1]) for row in rows if row[0] == "epci")


def test_each_former_code_leads_to_the_commune_that_bears_it_or_to_the_part_that_is_left_of_it(
    territory: Territory, communes: list[Commune]
) -> None:
    bearing = [commune for commune in communes if commune.former]
    assert (len(bearing), sum(len(commune.former) for commune in bearing)) == (2_667, 4_240)
    elsewhere = set()
    for commune in bearing:
        for former in commune.former:
            by_code = territory.resolve(former, PlaceType.COMMUNE)
            assert by_code is not None
            assert by_code.place == Place(PlaceType.COMMUNE, commune.code)
            if territory.resolve(former) != by_code and reached(territory, former)[0] != str(by_code.place):
                elsewhere.add(former)
    # Communes that left the one that had taken them in, and are associées of another today.
    assert elsewhere == {"55273", "60455"}


def test_corsican_codes_of_before_1976_lead_to_the_communes_of_today(territory: Territory) -> None:
    assert reached(territory, "20004") == ("commune:2A004", "former_code")
    assert territory.name(Place(PlaceType.COMMUNE, "2A004")) == "Ajaccio"


def test_arbignieu_is_found_by_its_type_although_its_chef_lieu_has_its_code(territory: Territory) -> None:
    assert reached(territory, "01015") == ("commune:01015",)
    assert reached(territory, "01015", PlaceType.COMMUNE_DELEGUEE) == ("commune:01015", "chef_lieu")
    assert territory.name(Place(PlaceType.COMMUNE, "01015")) == "Arboys en Bugey"
    assert territory.name(Place(PlaceType.COMMUNE_DELEGUEE, "01015")) == "Arbignieu"


def test_as_many_deleguees_share_the_code_of_their_chef_lieu_as_in_the_source(rows: list[list[str]]) -> None:
    parts = [row for row in rows if row[0] in {"commune_deleguee", "commune_associee"}]
    assert Counter(row[0] for row in parts if row[1] == row[3]) == {"commune_deleguee": 584}


def test_the_sixteenth_of_paris_lies_in_paris_its_metropole_its_departement_and_its_region(
    territory: Territory,
) -> None:
    assert reached(territory, "75116") == ("arrondissement:75116",)
    chain = territory.above(Place(PlaceType.ARRONDISSEMENT, "75116"))
    assert tuple(map(str, chain)) == ("commune:75056", "epci:200054781", "departement:75", "region:11")
    assert [territory.name(place) for place in chain] == [
        "Paris",
        "Métropole du Grand Paris",
        "Paris",
        "Île-de-France",
    ]


def test_only_four_islands_and_the_overseas_collectivities_are_in_no_epci(
    territory: Territory, communes: list[Commune]
) -> None:
    outside = [commune for commune in communes if commune.epci is None]
    assert [commune.code for commune in outside if commune.zone is not Zone.COM] == [
        "22016",
        "29083",
        "29155",
        "85113",
    ]
    assert Counter(commune.zone for commune in outside)[Zone.COM] == 94
    assert tuple(map(str, territory.above(Place(PlaceType.COMMUNE, "29155")))) == (
        "departement:29",
        "region:53",
    )


def test_every_commune_has_a_departement_and_a_region_above_it(territory: Territory) -> None:
    for place in territory.communes():
        chain = territory.above(place)
        assert [above.type for above in chain[-2:]] == [PlaceType.DEPARTEMENT, PlaceType.REGION]
        assert all(territory.name(above) is not None for above in chain)


def test_departements_and_epci_list_each_commune_once(territory: Territory, rows: list[list[str]]) -> None:
    by_departement = [c for row in rows if row[0] == "departement" for c in territory.communes_of(row[1])]
    members = [c for row in rows if row[0] == "epci" for c in territory.members_of(row[1])]
    assert len(by_departement) == len(set(by_departement)) == 34_969
    assert len(members) == len(set(members)) == 34_871


@pytest.mark.parametrize(
    "code", ["", "99", "99abc", "99100", "2a004", "２Ａ004", "20", "75", "2A4", "0" * 10**6]
)
def test_a_code_the_state_never_gave_is_no_place(territory: Territory, code: str) -> None:
    assert territory.resolve(code) is None


def test_a_country_is_a_place_abroad(territory: Territory) -> None:
    assert reached(territory, "99109") == ("abroad:99109",)


# A package of a few made-up places, as npm would pack it.

README = """
| Année | Version du package | NPM |
|-------|--------------------|-----|
| 2031  | 11.0.0             | npm |

Données : [Licence Ouverte](https://www.etalab.gouv.fr/licence-ouverte-open-licence)\\
Code : MIT
"""


def _commune(code: str, **more: object) -> dict[str, object]:
    known: dict[str, object] = {
        "code": code,
        "nom": f"Ville {code}",
        "zone": "metro",
        "type": "commune-actuelle",
    }
    return known | {"departement": "01", "region": "84"} | more


def small_package() -> dict[str, object]:
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
            _commune("01002", anciensCodes=["01004", "01003"]),
            _commune("01001", siren="210100012", population=860),
            _commune("01003", type="commune-deleguee", chefLieu="01002"),
            _commune("01005", type="arrondissement-municipal", commune="01001"),
        ],
    }


def tarball(contents: dict[str, object], *, prefix: str = "package/", mtime: int = 1_900_000_000) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        for name, value in contents.items():
            content = value.encode() if isinstance(value, str) else json.dumps(value).encode()
            member = tarfile.TarInfo(prefix + name)
            member.size, member.mtime = len(content), mtime
            archive.addfile(member, io.BytesIO(content))
    return whole.getvalue()


def derive_into(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.tgz").write_bytes(content)
    out = folder / "out.tsv.gz"
    assert derive.main([str(folder / "package.tgz"), "--out", str(out)]) == 0
    return out


def test_deriving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    content = tarball(small_package())
    first, second = derive_into(tmp_path / "one", content), derive_into(tmp_path / "two", content)
    assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "one/SOURCE.md").read_bytes() == (tmp_path / "two/SOURCE.md").read_bytes()


def test_the_order_of_the_source_does_not_change_the_places_written() -> None:
    turned = small_package()
    records = turned["data/communes.json"]
    assert isinstance(records, list)
    records.reverse()

    def places(package: dict[str, object]) -> list[tuple[str, ...]]:
        return [line for line in derive.derived(derive.opened(tarball(package))) if line[0] != "about"]

    assert places(turned) == places(small_package())


def test_what_was_derived_loads_as_a_territory(tmp_path: Path) -> None:
    territory = load_territory(derive_into(tmp_path, tarball(small_package())))
    assert territory.vintage == "2031"
    assert [place.code for place in territory.communes()] == ["01001", "01002"]
    assert territory.commune("01002") == Commune(
        "01002", "Ville 01002", "01", None, None, None, Zone.METRO, ("01003", "01004")
    )
    assert reached(territory, "01003") == ("commune:01002", "chef_lieu")
    assert reached(territory, "01004") == ("commune:01002", "former_code")
    assert tuple(map(str, territory.above(Place(PlaceType.ARRONDISSEMENT, "01005")))) == (
        "commune:01001",
        "epci:200000172",
        "departement:01",
        "region:84",
    )


def _with(name: str, value: object) -> bytes:
    return tarball(small_package() | {name: value})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "gzipped tar"),
        (b"no archive", "gzipped tar"),
        (tarball(small_package())[:-400], "gzipped tar"),
        (tarball(small_package(), prefix="other/"), "lacks"),
        (_with("package.json", {"name": "left-pad", "version": "11.0.0"}), "does not name"),
        (_with("package.json", {"name": derive.PACKAGE, "version": "11.0.1"}), "does not say the vintage"),
        (_with("README.md", README.replace("Licence Ouverte", "Tous droits")), "Licence Ouverte"),
        (_with("data/communes.json", "[" * 100_000), "not JSON"),
        (_with("data/communes.json", {"code": "01001"}), "not a list of records"),
        (_with("data/communes.json", [_commune("01001"), _commune("01001")]), "stands twice"),
        (
            _with(
                "data/communes.json", [_commune("01001", siren="210100012"), _commune("01002", type="hameau")]
            ),
            "not known",
        ),
        (_with("data/communes.json", [_commune("01001", siren="210100013")]), "another in epci.json"),
        (_with("data/communes.json", [_commune("01001", siren="210100012", nom="a\tb")]), "line of text"),
        (_with("data/communes.json", [_commune("01001", siren="210100012", region="11")]), "another région"),
        (_with("data/departements.json", [{"code": "01", "nom": "Ain", "region": "99"}]), "not there"),
        (
            _with("data/epci.json", [{"code": "200000173", "nom": "CC", "type": "CC", "membres": []}]),
            "no SIREN",
        ),
    ],
)
def test_a_package_that_is_another_or_contradicts_itself_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(derive.Contradiction, match=why):
        derive.derived(derive.opened(content))


def test_a_link_in_the_place_of_a_file_is_not_followed() -> None:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        link = tarfile.TarInfo("package/package.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    with pytest.raises(derive.Contradiction, match="no plain file"):
        derive.opened(whole.getvalue())


def test_a_package_that_is_refused_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "package.tgz").write_bytes(b"no archive")
    assert derive.main([str(tmp_path / "package.tgz"), "--out", str(tmp_path / "out.tsv.gz")]) == 1
    assert "not derived" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["package.tgz"]


# Files that were damaged on their way.


@pytest.fixture
def lines(tmp_path: Path) -> list[str]:
    """The head of a sound file (lines 1 to 15), its places (from line 16)."""
    sound = derive_into(tmp_path / "sound", tarball(small_package()))
    return gzip.decompress(sound.read_bytes()).decode().splitlines(keepends=True)


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[bytes], str]:
    def load(content: bytes) -> str:
        path = tmp_path / "damaged.tsv.gz"
        path.write_bytes(content)
        with pytest.raises(RuleBookError) as caught:
            load_territory(path)
        assert str(path) in str(caught.value)
        return str(caught.value)

    return load


@pytest.mark.parametrize(
    ("line", "text", "named", "why"),
    [
        (1, "about\tformat\t2\n", 16, "not a territory of format 1"),
        (2, "about\tmillésime\t2031\n", 16, "does not say the vintage"),
        (12, "count\tcommune\t٢\n", 12, "does not say how many rows"),
        (12, "count\tcommune\t3\n", 23, "ends with 2 commune rows, its head says 3"),
        (16, "hameau\t01\tNulle part\n", 16, "not a kind of row"),
        (17, "departement\t01\tAin\t32\n", 17, "names region 32"),
        (18, "epci\t20000017\tCC\tCC\n", 18, "not the columns of a epci row"),
        (19, "commune\t01001\tVille\t01\t200000180\t\t\tmetro\t\n", 19, "names epci 200000180"),
        (19, "commune\t01001\tVille\t01\t\t\t-5\tmetro\t\n", 19, "not the columns of a commune row"),
        (19, "commune\t01001\tVille\t01\t\t\t５\tmetro\t\n", 19, "not the columns of a commune row"),
        (19, "commune\t01001\tVille\t01\t\t\n", 19, "not the columns of a commune row"),
        (20, "commune\t01001\tVille\t01\t\t\t\tmetro\t\n", 20, "commune 01001 stands twice"),
        (21, "commune_deleguee\t01003\tVille\t01009\n", 21, "names commune 01009"),
        (22, "arrondissement\t01005\tVille\t01009\n", 22, "names commune 01009"),
        (22, "arrondissement\t01005\tVille\t01001", 22, "the line is cut"),
        (22, "\n", 22, "not a kind of row"),
    ],
)
def test_a_damaged_line_is_named(
    lines: list[str], refused: Callable[[bytes], str], line: int, text: str, named: int, why: str
) -> None:
    lines[line - 1] = text
    told = refused(gzip.compress("".join(lines).encode()))
    assert f", line {named}: " in told
    assert why in told


def test_a_line_that_is_not_utf8_is_named(lines: list[str], refused: Callable[[bytes], str]) -> None:
    content = [line.encode() for line in lines]
    content[18] = content[18].replace(b"Ville", b"Vill\xe9")
    assert ", line 19: not UTF-8" in refused(gzip.compress(b"".join(content)))


def test_a_file_that_ends_too_early_is_refused(lines: list[str], refused: Callable[[bytes], str]) -> None:
    assert "arrondissement rows" in refused(gzip.compress("".join(lines[:-1]).encode()))
    assert "ends before its places" in refused(gzip.compress("".join(lines[:10]).encode()))
    assert "ends before its places" in refused(gzip.compress(b""))
    assert "gzip stream" in refused(gzip.compress("".join(lines).encode())[:-9])


def test_a_file_that_is_not_gzip_is_refused(refused: Callable[[bytes], str]) -> None:
    assert ", line 1: the gzip stream is damaged" in refused(b"about\tformat\t1\n")


def test_a_flipped_bit_is_refused_unless_it_changes_nothing(
    lines: list[str], refused: Callable[[bytes], str]
) -> None:
    content = "".join(lines).encode()
    sound = gzip.compress(content, mtime=0)
    for position in range(len(sound)):
        damaged = sound[:position] + bytes([sound[position] ^ 0x10]) + sound[position + 1 :]
        try:
            # The time in the head and the padding at the end carry nothing.
            harmless = gzip.decompress(damaged) == content
        except (OSError, EOFError, zlib.error):
            harmless = False
        if not harmless:
            refused(damaged)


def test_a_file_that_is_not_there_is_an_error_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.tsv\.gz"):
        load_territory(tmp_path / "nowhere.tsv.gz")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_territory(tmp_path)
