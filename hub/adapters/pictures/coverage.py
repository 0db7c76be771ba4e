"""Draws coverage as a picture: one tile for each département, about where it lies, in one SVG.

Business of this file: places, colours and French words (people in France look at it). What is counted is the
domain's business, writing the file the caller's.

The grid is our own: neighbours stay neighbours where they can, and each département has the same room,
however small it is on a map. Colours go from orange, where gaps are, to a blue that only a whole
département gets; every tile says its percentage too, for those who do not see colours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

from hub.domain.coverage import Coverage, Figures

_GRID = """
..  ..  ..  ..  ..  ..  62  59  ..  ..  ..  ..  ..
..  ..  ..  ..  ..  76  80  02  08  ..  ..  ..  ..
..  ..  50  14  27  60  95  93  51  55  57  ..  ..
29  22  35  53  61  78  92  75  77  10  54  67  ..
..  56  44  49  72  28  91  94  89  52  88  68  ..
..  ..  ..  85  37  41  45  58  21  70  90  ..  ..
..  ..  ..  79  86  36  18  03  71  39  25  ..  ..
..  ..  ..  17  16  87  23  63  69  01  74  ..  ..
..  ..  ..  33  24  19  15  43  42  38  73  ..  ..
..  ..  ..  40  47  46  12  48  07  26  05  ..  ..
..  ..  ..  64  32  82  81  34  30  84  04  06  ..
..  ..  ..  ..  65  31  11  ..  ..  13  83  ..  2B
..  ..  ..  ..  ..  09  66  ..  ..  ..  ..  ..  2A
"""
_OVERSEAS = "971 972 973 974 976 975 977 978 984 986 987 988 989"

_PITCH, _SIDE = 62, 58
"""From one tile to the next, and its own side, in pixels as all that follows."""
_LEFT, _TOP = 32, 112
_COLUMNS = 13
_WIDTH = 2 * _LEFT + _COLUMNS * _PITCH
_OVERSEAS_GAP, _FOOT = 44, 84


def render(coverages: Sequence[Coverage]) -> str:
    """A picture of one coverage, or of several together; then a commune counts once for each procedure. A
    whole SVG document without scripts or anything from outside. Raises ValueError when there is none."""
    told = _Told.of(coverages)
    places = _places(told.departements)
    bottom = max(y for _, y in places.values()) + _SIDE
    height = bottom + _FOOT
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}"'
            f' height="{height}" role="img" aria-labelledby="title desc" lang="fr"'
            ' font-family="Marianne, Arial, DejaVu Sans, sans-serif" font-size="13" fill="#1e1e1e">',
            f'<title id="title">{told.heading}</title>',
            f'<desc id="desc">{told.description}</desc>',
            f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
            *_head(told),
            *_legend(),
            *_summary(told),
            *(_tile(code, at, told.departements.get(code), told.each) for code, at in places.items()),
            *_foot(told, bottom),
            "</svg>",
            "",
        ]
    )


# --- what is told -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Departement:
    name: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class _Told:
    """What one coverage says, or several in sum. Its texts are escaped."""

    heading: str
    subject: str
    when: str
    each: str
    people: bool
    remark: str
    total: Figures
    departements: Mapping[str, _Departement]

    @classmethod
    def of(cls, coverages: Sequence[Coverage]) -> _Told:
        if not coverages:
            raise ValueError("there is no coverage to draw")
        first, alone = coverages[0], len(coverages) == 1
        departements: dict[str, _Departement] = {}
        for one in (one for coverage in coverages for one in coverage.departements):
            before = departements.get(one.code)
            figures = one.figures if before is None else _sum((before.figures, one.figures))
            departements[one.code] = _Departement(one.name, figures)
        subject = f"{first.title} ({first.procedure})" if alone else f"{_number(len(coverages))} démarches"
        day = first.at.astimezone(ZoneInfo("Europe/Paris")).strftime("%d/%m/%Y")
        left_out = sum(coverage.left_out for coverage in coverages)
        return cls(
            _text(f"Couverture des communes : {subject}"),
            _text(subject),
            _text(f"Couverture des communes par les dépôts du {day}, millésime {first.vintage}"),
            "" if alone else " (une fois par démarche)",
            alone,
            f"{_number(left_out)} combinaisons de réponses n’ont pas été essayées." if left_out else "",
            _sum(coverage.total for coverage in coverages),
            departements,
        )

    @property
    def description(self) -> str:
        total = self.total
        return (
            f"{_percentage(total)} : {_number(total.covered)} communes couvertes sur "
            f"{_number(total.communes)}{self.each}. "
            "Un carré par département, avec la part de ses communes couvertes."
        )


def _sum(all_figures: Iterable[Figures]) -> Figures:
    every = tuple(all_figures)
    return Figures(
        sum(one.communes for one in every),
        sum(one.covered for one in every),
        sum(one.nobody for one in every),
        sum(one.population for one in every),
        sum(one.population_covered for one in every),
        sum(one.population_nobody for one in every),
    )


# --- places -------------------------------------------------------------------------------------------


def _places(known: Iterable[str]) -> Mapping[str, tuple[int, int]]:
    """Where each département's tile stands: those of the grid, those overseas, and below them what a later
    vintage may know and the grid does not."""
    rows = [row.split() for row in _GRID.split("\n") if row]
    found = {
        code: (_LEFT + column * _PITCH, _TOP + line * _PITCH)
        for line, row in enumerate(rows)
        for column, code in enumerate(row)
        if code != ".."
    }
    overseas = _OVERSEAS.split()
    below = _TOP + len(rows) * _PITCH + _OVERSEAS_GAP
    others = sorted(set(known) - found.keys() - set(overseas))
    for number, code in enumerate([*overseas, *others]):
        line, column = divmod(number, _COLUMNS)
        found[code] = (_LEFT + column * _PITCH, below + line * _PITCH)
    return found


def _tile(code: str, at: tuple[int, int], departement: _Departement | None, each: str) -> str:
    x, y = at
    middle = x + _SIDE // 2
    if departement is None:
        return (
            f'<g><title>{_text(code)} : hors de ce territoire</title><rect x="{x}" y="{y}" width="{_SIDE}" '
            f'height="{_SIDE}" rx="4" fill="#ffffff" stroke="#c8c8c8" stroke-dasharray="3 3"/>'
            f"{_line(middle, y + 33, _text(code), 15, '#767676', anchor='middle')}</g>"
        )
    paint, ink = _colours(departement.figures)
    figures = departement.figures
    hover = f"{departement.name} ({code}) : {_number(figures.covered)} communes couvertes sur "
    hover += f"{_number(figures.communes)}{each}"
    if figures.nobody:
        hover += f" ; {_number(figures.nobody)} où un dépôt peut n’atteindre personne"
    return (
        f'<g><title>{_text(hover)}</title><rect x="{x}" y="{y}" width="{_SIDE}" height="{_SIDE}" rx="4" '
        f'fill="{paint}"/>{_line(middle, y + 26, _text(code), 16, ink, anchor="middle", bold=True)}'
        f"{_line(middle, y + 45, _percentage(figures), 13, ink, anchor='middle')}</g>"
    )


# --- colours ------------------------------------------------------------------------------------------

_CLASSES = (
    ("0 %", "#7f3b08", "#ffffff"),
    ("1–24 %", "#b35806", "#ffffff"),
    ("25–49 %", "#e08214", "#1e1e1e"),
    ("50–74 %", "#fdc57f", "#1e1e1e"),
    ("75–99 %", "#c6dbef", "#1e1e1e"),
    ("100 %", "#2166ac", "#ffffff"),
)
"""Words, colour, and the colour of what is written on it (contrast of 4.5 to 1 or better)."""


def _colours(figures: Figures) -> tuple[str, str]:
    if figures.covered == 0:
        chosen = 0
    elif figures.covered == figures.communes:
        chosen = len(_CLASSES) - 1
    else:
        chosen = 1 + 4 * figures.covered // figures.communes
    return _CLASSES[chosen][1:]


def _percentage(figures: Figures) -> str:
    """Never 100 % while a commune is missing, nor 0 % while one is covered."""
    percent = 100 * figures.covered // figures.communes if figures.communes else 0
    return _text("< 1 %") if percent == 0 and figures.covered else f"{percent} %"


# --- words --------------------------------------------------------------------------------------------

_LONG_SUBJECT, _LONGEST_SUBJECT = 56, 84


def _head(told: _Told) -> Iterator[str]:
    size = 24 if len(told.subject) <= _LONG_SUBJECT else 17
    room = f' textLength="{_COLUMNS * _PITCH}" lengthAdjust="spacingAndGlyphs"'
    squeezed = room if len(told.subject) > _LONGEST_SUBJECT else ""
    yield _line(_LEFT, 46, told.subject, size, bold=True, more=squeezed)
    yield _line(_LEFT, 72, told.when, 14, "#4a4a4a")


def _legend() -> Iterator[str]:
    width = 60
    yield _line(_LEFT, _TOP + 12, "Part des communes couvertes", 13, bold=True)
    for number, (words, paint, _) in enumerate(_CLASSES):
        x = _LEFT + number * width
        yield f'<rect x="{x}" y="{_TOP + 22}" width="{width - 3}" height="16" rx="2" fill="{paint}"/>'
        yield _line(x + (width - 3) // 2, _TOP + 53, words, 11, anchor="middle")


def _summary(told: _Told) -> Iterator[str]:
    """Beside the map, in the ocean."""
    total, y = told.total, _TOP + 6 * _PITCH
    yield _line(_LEFT, y, _percentage(total), 46, bold=True)
    lines = [f"{_number(total.covered)} communes", f"couvertes sur {_number(total.communes)}"]
    if not told.people:
        lines += ["", "Chaque commune", "compte une fois", "par démarche."]
    if told.people:
        lines += ["", f"{_number(total.population_covered)} habitants", f"sur {_number(total.population)}"]
    if total.nobody:
        lines += ["", f"Dans {_number(total.nobody)} communes,", "un dépôt peut", "n’atteindre personne"]
        if told.people:
            lines += [f"({_number(total.population_nobody)} habitants)"]
    for number, words in enumerate(lines):
        yield _line(_LEFT, y + 28 + 19 * number, words, 14)


def _foot(told: _Told, bottom: int) -> Iterator[str]:
    first = _places(())[_OVERSEAS.split()[0]][1]
    yield _line(_LEFT, first - 12, "Outre-mer", 13, bold=True)
    said = "Une commune est couverte quand tout dépôt y atteint chaque destinataire que prévoient les règles."
    yield _line(_LEFT, bottom + 34, said, 12, "#4a4a4a")
    place = "Chaque carré est un département, placé à peu près là où il se trouve."
    yield _line(_LEFT, bottom + 54, f"{place} {told.remark}".strip(), 12, "#4a4a4a")


def _line(
    x: int,
    y: int,
    escaped: str,
    size: int,
    colour: str = "#1e1e1e",
    *,
    anchor: str = "start",
    bold: bool = False,
    more: str = "",
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{weight}{more}>'
        f"{escaped}</text>"
    )


_SPACES = "\u00a0\u202f"


def _text(told: str) -> str:
    """Escaped; what XML cannot hold becomes a space."""
    return escape("".join(letter if letter.isprintable() or letter in _SPACES else " " for letter in told))


def _number(value: int) -> str:
    """Thousands parted by the narrow space of French typography."""
    return f"{value:,}".replace(",", "\u202f")
