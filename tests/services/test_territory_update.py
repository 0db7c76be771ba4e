"""Another vintage of the territory: derived from its package, put beside the others, listed."""

from __future__ import annotations

import fcntl
import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.adapters.rules import vintages
from hub.adapters.rules.derivation import PACKAGE, derived, opened, packed
from hub.adapters.rules.territory import load_territory, read_territory
from hub.adapters.rules.vintages import fetched, list_vintages, update
from hub.domain.errors import RuleBookError, SettingsError, Unavailable
from hub.domain.territory import Commune, Place, PlaceType, Zone
from tests.services.territory_packages import README, commune, small_package, tarball


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A folder of rules with no territory yet."""
    (tmp_path / "territory").mkdir()
    return tmp_path


def of_version(version: str, year: str = "2031", **names: str) -> bytes:
    """The small package under another version; `names` gives communes other names, by c and their code."""
    records = [commune("01001", siren="210100012"), commune("01002")]
    for record in records:
        record["nom"] = names.get(f"c{record['code']}", record["nom"])
    return tarball(
        small_package()
        | {
            "package.json": {"name": PACKAGE, "version": version},
            "README.md": README.replace("11.0.0", version).replace("2031", year),
            "data/communes.json": records,
        }
    )


def files(rules: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (rules / "territory").iterdir()}


# What is derived.


def test_deriving_twice_gives_the_same_bytes() -> None:
    content = tarball(small_package())
    assert packed(derived(opened(content), "2031")) == packed(derived(opened(content), "2031"))


def test_the_order_of_the_source_does_not_change_the_places_written() -> None:
    turned = small_package()
    records = turned["data/communes.json"]
    assert isinstance(records, list)
    records.reverse()

    def places(package: dict[str, object]) -> list[tuple[str, ...]]:
        return [line for line in derived(opened(tarball(package)), "2031") if line[0] != "about"]

    assert places(turned) == places(small_package())


def test_what_was_derived_loads_as_a_territory() -> None:
    territory = read_territory(packed(derived(opened(tarball(small_package())), "2031")), "x")
    assert territory.vintage == "2031"
    assert [place.code for place in territory.communes()] == ["01001", "01002"]
    assert territory.commune("01002") == Commune(
        "01002", "Ville 01002", "01", None, None, None, Zone.METRO, ("01003", "01004")
    )
    chain = territory.above(Place(PlaceType.ARRONDISSEMENT, "01005"))
    assert tuple(map(str, chain)) == ("commune:01001", "epci:200000172", "departement:01", "region:84")


def test_a_version_that_the_readme_forgot_is_of_the_year_of_its_major_number() -> None:
    lagging = small_package() | {"package.json": {"name": PACKAGE, "version": "11.2.0"}}
    assert opened(tarball(lagging)).year == "2031"
    other = small_package() | {"package.json": {"name": PACKAGE, "version": "1.2.0"}}
    with pytest.raises(RuleBookError, match=r"does not say of which year version 1\.2\.0 is"):
        opened(tarball(other))


def _with(name: str, value: object) -> bytes:
    return tarball(small_package() | {name: value})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not a tar archive"),
        (b"no archive", "gzip stream"),
        (tarball(small_package())[:-400], "gzip stream"),
        (gzip.compress(b"no archive" * 100, mtime=0), "not a tar archive"),
        (gzip.compress(gzip.decompress(tarball(small_package()))[:2_000], mtime=0), "not a tar archive"),
        (tarball(small_package(), prefix="other/"), "lacks"),
        (tarball(small_package(), prefix="package/../package/"), "lacks"),
        (tarball(small_package(), prefix="/package/"), "lacks"),
        (_with("package.json", {"name": "left-pad", "version": "11.0.0"}), "does not name"),
        (_with("package.json", {"name": PACKAGE, "version": "11"}), "does not say its version"),
        (_with("README.md", README.replace("Licence Ouverte", "Tous droits")), "Licence Ouverte"),
        (_with("data/communes.json", "[" * 100_000), "not JSON"),
        (_with("data/communes.json", {"code": "01001"}), "not a list of records"),
        (_with("data/communes.json", [commune("01001"), commune("01001")]), "stands twice"),
        (
            _with(
                "data/communes.json", [commune("01001", siren="210100012"), commune("01002", type="hameau")]
            ),
            "not known",
        ),
        (_with("data/communes.json", [commune("01001", siren="210100013")]), "another in epci.json"),
        (_with("data/communes.json", [commune("01001", siren="210100012", nom="a\tb")]), "line of text"),
        (_with("data/communes.json", [commune("01001", siren="210100012", nom="\ud800")]), "line of text"),
        (_with("data/communes.json", [commune("01001", siren="210100012", region="11")]), "another région"),
        (_with("data/departements.json", [{"code": "01", "nom": "Ain", "region": "99"}]), "not there"),
        (
            _with("data/epci.json", [{"code": "undefined", "nom": "CC", "type": "CC", "membres": []}]),
            "no SIREN",
        ),
    ],
)
def test_a_package_that_is_another_or_contradicts_itself_is_refused_and_nothing_is_written(
    rules: Path, content: bytes, why: str
) -> None:
    with pytest.raises(RuleBookError, match=why):
        update(rules, content)
    assert files(rules) == {}


def test_places_that_only_the_whole_shows_to_be_wrong_are_refused_and_nothing_is_written(rules: Path) -> None:
    records = [
        commune("01001", siren="210100012", anciensCodes=["01009"]),
        commune("01002", anciensCodes=["01009"]),
    ]
    with pytest.raises(RuleBookError, match="former code 01009 leads to commune 01001 too"):
        update(rules, _with("data/communes.json", records))
    assert files(rules) == {}


def test_a_package_that_unpacks_to_far_too_much_is_refused() -> None:
    whole = io.BytesIO()
    with gzip.open(whole, "wb", compresslevel=1) as bomb:
        for _ in range(46):
            bomb.write(bytes(1_000_000))
    with pytest.raises(RuleBookError, match="45,000,000 bytes unpacked"):
        opened(whole.getvalue())


def test_a_file_that_claims_to_be_larger_than_any_of_the_package_is_refused() -> None:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/data/communes.json")
        member.size = 20_000_001
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(RuleBookError, match="larger than the package can be"):
        opened(whole.getvalue())


def test_a_link_in_the_place_of_a_file_is_not_followed() -> None:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        link = tarfile.TarInfo("package/package.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    with pytest.raises(RuleBookError, match="no plain file"):
        opened(whole.getvalue())


# What is kept.


def test_an_update_puts_the_vintage_and_its_description_beside_the_others(rules: Path) -> None:
    first = update(rules, of_version("10.0.0", "2030"))
    before = files(rules)["2030.tsv.gz"]
    second = update(rules, of_version("11.0.0"))
    assert (first.vintage.name, second.vintage.name) == ("2030", "2031")
    assert first.written
    assert second.written
    assert sorted(files(rules)) == ["2030.tsv.gz", "2031.tsv.gz", "SOURCE.md"]
    assert files(rules)["2030.tsv.gz"] == before
    assert load_territory(second.vintage.path).vintage == second.territory.vintage == "2031"
    described = files(rules)["SOURCE.md"].decode()
    for vintage in (first.vintage, second.vintage):
        assert f"## Vintage {vintage.name}\n" in described
        assert vintage.about["sha512"] in described
        assert f"{PACKAGE}` {vintage.version}, " in described


def test_the_same_package_again_changes_nothing(rules: Path) -> None:
    assert update(rules, of_version("11.0.0")).written
    before = files(rules)
    again = update(rules, of_version("11.0.0"))
    assert (again.written, again.vintage.name) == (False, "2031")
    assert files(rules) == before


def test_a_file_that_another_zlib_packed_is_the_same_vintage(rules: Path) -> None:
    path = update(rules, of_version("11.0.0")).vintage.path
    otherwise = gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1)
    path.write_bytes(otherwise)
    assert not update(rules, of_version("11.0.0")).written
    assert path.read_bytes() == otherwise


def test_a_later_version_for_the_same_year_is_a_vintage_of_its_own(rules: Path) -> None:
    names = [update(rules, of_version(f"11.{minor}.0")).vintage.name for minor in range(11)]
    assert names == ["2031", *(f"2031-{number}" for number in range(2, 12))]
    update(rules, of_version("10.0.0", "2030"))
    assert [vintage.name for vintage in list_vintages(rules)] == ["2030", *names]


def test_an_older_version_than_one_of_the_same_year_is_refused(rules: Path) -> None:
    update(rules, of_version("11.10.0"))
    with pytest.raises(
        RuleBookError, match=r"11\.9\.0 is older than 11\.10\.0, from which vintage 2031 came"
    ):
        update(rules, of_version("11.9.0"))
    assert [vintage.version for vintage in list_vintages(rules)] == ["11.10.0"]


def test_a_vintage_that_holds_other_rows_is_kept_unless_replacing_it_is_asked_for(rules: Path) -> None:
    path = update(rules, of_version("11.0.0")).vintage.path
    sound = path.read_bytes()
    changed = gzip.compress(gzip.decompress(sound).replace(b"Ville 01002", b"Ville nulle"))
    path.write_bytes(changed)
    with pytest.raises(RuleBookError, match="other rows than version"):
        update(rules, of_version("11.0.0"))
    assert path.read_bytes() == changed
    assert update(rules, of_version("11.0.0"), replace=True).written
    assert path.read_bytes() == sound


@pytest.mark.parametrize("stopped_at", ["os.fsync", "pathlib.Path.replace"])
def test_an_update_that_stops_in_the_middle_leaves_the_vintages_as_they_were_and_can_be_made_again(
    rules: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: str
) -> None:
    update(rules, of_version("10.0.0", "2030"))
    before = files(rules)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(stopped_at, full)
        with pytest.raises(SettingsError, match=r"2031\.tsv\.gz cannot be written: No space left"):
            update(rules, of_version("11.0.0"))
    assert files(rules) == before
    # What a killed update leaves under its own name is no vintage, and is written over.
    (rules / "territory" / ".2031.tsv.gz.unfinished").write_bytes(b"cut")
    assert [vintage.name for vintage in list_vintages(rules)] == ["2030"]
    assert update(rules, of_version("11.0.0")).written
    assert sorted(files(rules)) == ["2030.tsv.gz", "2031.tsv.gz", "SOURCE.md"]


def test_a_description_that_was_not_written_any_more_is_by_the_next_update(rules: Path) -> None:
    update(rules, of_version("11.0.0"))
    whole = files(rules)["SOURCE.md"]
    (rules / "territory" / "SOURCE.md").unlink()
    assert not update(rules, of_version("11.0.0")).written
    assert files(rules)["SOURCE.md"] == whole


def test_two_updates_at_once_are_one_after_the_other(rules: Path) -> None:
    handle = os.open(rules / "territory", os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match="another update"):
            update(rules, of_version("11.0.0"))
    finally:
        os.close(handle)
    assert update(rules, of_version("11.0.0")).written


# What is listed.


def test_a_vintage_is_listed_with_its_version_its_day_and_its_rows(rules: Path) -> None:
    update(rules, tarball(small_package()))
    (vintage,) = list_vintages(rules)
    assert (vintage.name, vintage.version, vintage.dated, vintage.rows) == ("2031", "11.0.0", "2030-03-17", 7)


def test_a_vintage_that_cannot_be_read_or_was_renamed_is_named(rules: Path) -> None:
    path = update(rules, of_version("11.0.0")).vintage.path
    path.rename(path.with_name("2032.tsv.gz"))
    with pytest.raises(RuleBookError, match=r"2032\.tsv\.gz says it is another vintage"):
        list_vintages(rules)
    path.with_name("2032.tsv.gz").write_bytes(b"cut")
    with pytest.raises(RuleBookError, match=r"2032\.tsv\.gz, line 1: the gzip stream"):
        list_vintages(rules)
    with pytest.raises(SettingsError, match="cannot be read"):
        list_vintages(rules / "nowhere")
    with pytest.raises(SettingsError, match="cannot be read"):
        update(rules / "nowhere", of_version("11.0.0"))


# What npm gives: a program of that name that hands out what we want, as npm itself needs the network.


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def become(script: str) -> None:
        program = tmp_path / "bin" / "npm"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    return become


def test_a_version_is_fetched_by_npm_without_running_what_it_brings(
    tmp_path: Path, npm: Callable[[str], None]
) -> None:
    (tmp_path / "given.tgz").write_bytes(of_version("11.0.0"))
    npm(f'echo "$@" > {tmp_path}/asked; cp {tmp_path}/given.tgz "$5/"')
    assert fetched("11.0.0") == of_version("11.0.0")
    asked = (tmp_path / "asked").read_text().split()
    assert (asked[:2], asked[-1]) == (["pack", "--ignore-scripts"], f"{PACKAGE}@11.0.0")
    with pytest.raises(RuleBookError, match=r"npm gave version 11\.0\.0, not 11\.0\.1"):
        fetched("11.0.1")


def test_npm_that_fails_gives_nothing_or_never_ends_is_unavailable(
    npm: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    npm("exit 1")
    with pytest.raises(Unavailable, match="exit 1"):
        fetched("11.0.0")
    npm("exit 0")
    with pytest.raises(Unavailable, match="exit 0"):
        fetched("11.0.0")
    npm("exec sleep 60")
    monkeypatch.setattr(vintages, "_PATIENCE_SECONDS", 0.1)
    with pytest.raises(Unavailable, match="in time"):
        fetched("11.0.0")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unavailable, match="not installed"):
        fetched("11.0.0")


@pytest.mark.parametrize("version", ["", "6", "latest", "6.0.0 --registry=x", "-6.0.0", "6.0.0\n", "６.0.0"])
def test_what_is_no_version_never_reaches_npm(version: str) -> None:
    with pytest.raises(RuleBookError, match="three numbers"):
        fetched(version)
