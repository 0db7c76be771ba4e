"""The territory's dataset: what the file of 2026 holds, and what a damaged file says."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import routing_rules.territory
from hub.adapters.rules.derivation import derived, opened, packed
from hub.adapters.rules.territory import MOST_BYTES, load_territory, read_head, read_territory
from hub.domain.errors import RuleBookError, SettingsError
from hub.domain.partner import is_siren
from hub.domain.territory import SLOT_OF, Commune, Level, Place, PlaceType, Territory, Zone
from tests.services.territory_packages import small_package, tarball

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
            assert reached(territory, former)[0] == str(by_code.place)
            if by_code.place.code != commune.code:
                elsewhere.add(former)
    assert elsewhere == {"55273", "60455"}


@pytest.mark.parametrize(
    ("code", "part", "commune"),
    [
        # La Neuville-Garnier is a commune déléguée of Les Hauts-Talican (60694). That commune bore 60054 until
        # Beaumont-les-Nonains left it with that code, and in the source with the former codes that hang on it.
        ("60455", PlaceType.COMMUNE_DELEGUEE, "60694"),
        # Lamarche-en-Woëvre is an associée of Nonsard-Lamarche, which bore its code as a former one in the vintage
        # of 2022; that of 2026 gives it to Heudicourt-sous-les-Côtes.
        ("55273", PlaceType.COMMUNE_ASSOCIEE, "55386"),
    ],
)
def test_a_former_commune_that_is_a_part_of_one_and_claimed_by_another_is_where_it_is_a_part(
    territory: Territory, code: str, part: PlaceType, commune: str
) -> None:
    assert reached(territory, code) == (f"commune:{commune}", "chef_lieu")
    assert reached(territory, code, part) == (f"commune:{commune}", "chef_lieu")
    assert reached(territory, code, PlaceType.COMMUNE) == (f"commune:{commune}", "former_code")
    bare = territory.read(code)
    assert bare is not None
    assert bare.around[SLOT_OF[Level(part.value)]] == f"{part}:{code}"


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


# Files that were damaged on their way.


@pytest.fixture(scope="module")
def sound() -> bytes:
    return packed(derived(opened(tarball(small_package())), "2031"))


@pytest.fixture
def lines(sound: bytes) -> list[str]:
    """The head of a sound file (lines 1 to 15), its places (from line 16)."""
    return gzip.decompress(sound).decode().splitlines(keepends=True)


@pytest.fixture
def refused() -> Callable[[bytes], str]:
    def read(content: bytes) -> str:
        with pytest.raises(RuleBookError) as caught:
            read_territory(content, "edition 7")
        assert str(caught.value).startswith("edition 7, line ")
        return str(caught.value)

    return read


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


def test_what_unpacks_to_far_more_than_a_territory_is_refused_before_it_fills_the_memory(
    refused: Callable[[bytes], str],
) -> None:
    line = b"about\tformat\t" + b"1" * 60_000 + b"\n"
    many = gzip.compress(line * (MOST_BYTES // len(line) + 1), compresslevel=1)
    assert "more than 40,000,000 bytes unpacked" in refused(many)
    assert "the line is too long" in refused(gzip.compress(b"1" * 200_000))


def test_a_damaged_file_is_named_by_its_path(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "2031.tsv.gz"
    path.write_bytes(gzip.compress("".join(lines[:-1]).encode()))
    with pytest.raises(RuleBookError, match=rf"^territory {path}, line 22: "):
        load_territory(path)


def test_a_head_is_read_without_the_places_behind_it(lines: list[str]) -> None:
    head = read_head(gzip.compress("".join(lines[:16]).encode()), "x")
    assert (head.about["vintage"], head.about["version"]) == ("2031", "11.0.0")
    assert head.counts["commune"] == 2
    with pytest.raises(RuleBookError, match=r"^x, line 11: the file ends before its places"):
        read_head(gzip.compress("".join(lines[:10]).encode()), "x")


def test_a_file_that_is_not_there_is_an_error_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.tsv\.gz"):
        load_territory(tmp_path / "nowhere.tsv.gz")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_territory(tmp_path)
