"""The vintages of the territory beside the rules: which there are, and taking in another one.

Business of this file: the folder `territory/` of the rules, its names, its SOURCE.md, and fetching the package a
vintage is derived from. What a dataset holds is `territory`'s and `derivation`'s business.

A vintage is named by its year: `2026`. The package has several versions for one year; each later one gives a
vintage of its own, `2026-2`, `2026-3`, because rule books in force were built on the earlier. What is there is
never overwritten by something else, unless that is asked for.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hub.adapters.rules.derivation import PACKAGE, Package, derived, opened, packed
from hub.adapters.rules.territory import MOST_BYTES, read_dataset, read_head, read_territory, unpacked
from hub.domain.errors import RuleBookError, SettingsError, Unavailable
from hub.domain.territory import Territory

_SUFFIX = ".tsv.gz"
_NAME = re.compile(r"([0-9]{4})(?:-([1-9][0-9]{0,3}))?")
_WORDS = {
    "region": "régions, and collectivities that stand as one",
    "departement": "départements, and collectivities that stand as one",
    "epci": "EPCI",
    "commune": "current communes",
    "commune_deleguee": "communes déléguées",
    "commune_associee": "communes associées",
    "arrondissement": "municipal arrondissements",
}


@dataclass(frozen=True, slots=True)
class Vintage:
    """A dataset of the folder, by what its head says: `about` has the package's version, the day its data
    are dated, their licence and the package's sums; `counts` the rows of each kind."""

    name: str
    path: Path
    about: Mapping[str, str]
    counts: Mapping[str, int]

    @property
    def version(self) -> str:
        return self.about.get("version", "")

    @property
    def dated(self) -> str:
        """An ISO date."""
        return self.about.get("dated", "")

    @property
    def rows(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Update:
    """What came of taking in a package. `written` False: this vintage was here already, with the same rows."""

    vintage: Vintage
    territory: Territory
    written: bool


def list_vintages(rules: Path) -> tuple[Vintage, ...]:
    """The vintages beside these rules, the oldest first; only their heads are read. Raises SettingsError
    when the folder or a file cannot be read, RuleBookError when a head is damaged."""
    folder = rules / "territory"
    try:
        names = [path.name.removesuffix(_SUFFIX) for path in folder.iterdir() if path.name.endswith(_SUFFIX)]
    except OSError as error:
        raise SettingsError(f"{folder} cannot be read: {error.strerror}") from error
    return tuple(_listed(folder, name) for name in sorted(filter(_NAME.fullmatch, names), key=_age))


def update(rules: Path, tarball: bytes, replace: bool = False) -> Update:
    """Derive the vintage of this package and put it beside the others, whole or not at all; SOURCE.md then
    describes them all.

    A package that is here already changes nothing. `replace`: where the file that came from this package
    holds other rows than it gives now, it is written anew; without it that is refused. Raises RuleBookError
    when the package is not what it should be, contradicts itself, or is older than one of the same year
    that is here; SettingsError when the folder cannot be read or written; Unavailable when another update
    is at work.
    """
    package = opened(tarball)
    folder = rules / "territory"
    with _alone(folder):
        there = list_vintages(rules)
        name = _named(package, there)
        data = packed(derived(package, name))
        territory = read_territory(data, f"territory {name}, as derived")
        path = folder / f"{name}{_SUFFIX}"
        kept = path.exists() and _rows(read_dataset(path)) == _rows(data)
        if path.exists() and not kept and not replace:
            raise RuleBookError(
                f"{path} holds other rows than version {package.version} gives: "
                "it was changed, or derived otherwise; it is kept unless replacing it is asked for"
            )
        if not kept:
            _write(path, data)
        after = list_vintages(rules)
        _write(folder / "SOURCE.md", _described(after).encode("utf-8"))
    vintage = next(one for one in after if one.name == name)
    return Update(vintage, territory, not kept)


def fetched(version: str) -> bytes:
    """The package as npm hands it out; npm checks it against the registry's own sum. Raises Unavailable when
    npm is not here or does not give it, RuleBookError when this is no version or npm gave another one."""
    if not re.fullmatch(r"[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}", version):
        raise RuleBookError("a version is three numbers, such as 6.0.0")
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--ignore-scripts", "--silent", "--pack-destination", folder]
        try:
            # In that folder, so that no settings of npm lying about where the command was given are read.
            done = subprocess.run(
                [*command, f"{PACKAGE}@{version}"],
                check=False,
                capture_output=True,
                text=True,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                timeout=_PATIENCE_SECONDS,
            )
        except FileNotFoundError as error:
            raise Unavailable(
                "npm is not installed: fetch the package elsewhere, and give its file"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise Unavailable("npm did not give the package in time") from error
        tarballs = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(tarballs) != 1:
            raise Unavailable(f"npm did not give version {version} of the package (exit {done.returncode})")
        tarball = tarballs[0].read_bytes()
    given = opened(tarball).version
    if given != version:
        raise RuleBookError(f"npm gave version {given}, not {version}")
    return tarball


_PATIENCE_SECONDS = 120


def _listed(folder: Path, name: str) -> Vintage:
    path = folder / f"{name}{_SUFFIX}"
    head = read_head(read_dataset(path), f"territory {path}")
    if head.about["vintage"] != name:
        raise RuleBookError(f"territory {path} says it is another vintage: was it renamed?")
    return Vintage(name, path, head.about, head.counts)


def _age(name: str) -> tuple[int, int]:
    year, _, number = name.partition("-")
    return int(year), int(number or "1")


def _named(package: Package, there: Sequence[Vintage]) -> str:
    """The name of the vintage that came from this package, or of the next one of its year."""
    alike = [one for one in there if one.name.partition("-")[0] == package.year]
    for one in alike:
        if one.version == package.version:
            return one.name
        if _numbers(one.version) > _numbers(package.version):
            raise RuleBookError(
                f"version {package.version} is older than {one.version}, from which vintage {one.name} came"
            )
    if not alike:
        return package.year
    return f"{package.year}-{_age(alike[-1].name)[1] + 1}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"[0-9]+", version))


def _rows(data: bytes) -> bytes | None:
    """To be compared: another zlib may pack the same rows in other bytes. None when they are damaged."""
    try:
        return b"".join(unpacked(data, MOST_BYTES))
    except RuleBookError:
        return None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One update at a time: two would give the same name to different vintages."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise SettingsError(f"{folder} cannot be read: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable(f"another update of {folder} is at work") from error
        yield
    finally:
        os.close(handle)


def _write(path: Path, content: bytes) -> None:
    """Whole, or as it was: whoever reads meanwhile, and whenever the machine stops. What is already so is not
    touched."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        if path.exists() and path.read_bytes() == content:
            return
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _described(vintages: Sequence[Vintage]) -> str:
    """What a reader of the folder should know of its files, in words; the newest first."""
    return _INTRODUCTION + "".join(_section(one) for one in reversed(vintages)) + _COLUMNS


def _section(vintage: Vintage) -> str:
    about = vintage.about
    counts = "".join(f"| {_WORDS[kind]} | {vintage.counts[kind]:,} |\n" for kind in _WORDS)
    return f"""## Vintage {vintage.name}

| | |
|---|---|
| file | `{vintage.path.name}` |
| derived from | npm package `{PACKAGE}` {vintage.version}, its data dated {vintage.dated} |
| licence of the data | {about.get("licence", "")}, as the package's README states |
| sha256 of the package | `{about.get("sha256", "")}` |
| integrity of the package | `{about.get("sha512", "")}` |
{counts}
"""


_INTRODUCTION = f"""# The territory's vintages

Written by `hub territory update`, which takes in another version of the npm package `{PACKAGE}`:

    hub territory update --npm VERSION
    hub territory update PACKAGE.tgz

A vintage is named by the year that the package's README states for its version. A later version for the same year
is a vintage of its own (`2026-2`); none is overwritten. The rows and their order are always the same for the same
package; compressed, they are the same bytes with the same zlib.

The package compiles, by its own account: the Code officiel géographique and the legal populations of INSEE,
and the DGCL's list of EPCI with taxes of their own, from which the communes' SIREN are taken.

Left out: postal codes (no routing key: most are shared), arrondissements of sous-préfectures, the
établissements publics territoriaux of Grand Paris. A commune's région is that of its département.

"""

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
