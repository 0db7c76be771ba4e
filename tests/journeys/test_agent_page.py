"""The mailbox's page in a real browser, as an agent without software uses it."""

from __future__ import annotations

import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from itertools import pairwise

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.conftest import Databases
from tests.journeys.agent import Agent, House, agent, house
from tests.services.http_world import World, inline, offer

PDF = b"%PDF-1.4\n" + bytes(range(256)) * 300
HOSTILE = "<script>document.title='pris'</script>"
SPOOF = "facture\u202efdp.exe"


@pytest.fixture(scope="module")
def browsing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with agent(tmp_path_factory.mktemp("browser")) as somebody:
        yield somebody


@pytest.fixture(scope="module")
def town(
    browsing: Agent, postgres_dsn: str, database_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    databases = Databases(postgres_dsn, database_template)
    try:
        with house(databases.make(), tmp_path_factory.mktemp("hub")) as opened:
            opened.run(_fill(opened.world))
            yield opened
    finally:
        databases.drop()


async def _fill(world: World) -> None:
    for number in range(1, 4):
        files = [inline(PDF, f"acte {number} «été».pdf"), inline(b"<x/>", SPOOF)]
        answer = await world.post(offer(external_id=f"2026-{number:03d}", attachments=files))
        assert answer.status == 202, answer.body
    answer = await world.post(
        offer(
            external_id=HOSTILE,
            applicant={"last_name": HOSTILE},
            content={HOSTILE: f'"><img src=x onerror=alert(1)>{SPOOF}'},
            attachments=[inline(PDF, f"{HOSTILE}.pdf")],
        )
    )
    assert answer.status == 202, answer.body
    await world.route()
    await world.deliver()


async def _more(world: World, *references: str) -> None:
    for reference in references:
        answer = await world.post(offer(external_id=reference, attachments=[inline(PDF, "acte.pdf")]))
        assert answer.status == 202, answer.body
    await world.route()
    await world.deliver()


def test_an_agent_reads_downloads_and_acknowledges_by_the_keyboard_alone(
    town: House, browsing: Agent
) -> None:
    browsing.opens(f"{town.url}/boite")
    # The first key leads past the head of the page.
    browsing.tabs_to("Aller au contenu")
    browsing.presses(Keys.ENTER)
    browsing.tabs_to("code")
    browsing.presses(town.world.tokens["bonneville"], Keys.ENTER)
    browsing.waits_for("Mairie de Bonneville")
    assert browsing.browser.title == "À relever – Boîte de dépôt"
    browsing.tabs_to("Ouvrir le pli 2026-001")
    browsing.presses(Keys.ENTER)
    browsing.waits_for("Acheminement")
    for name, content in (("acte 1 _été_.pdf", PDF), ("facturefdp.exe", b"<x/>")):
        browsing.tabs_to(f"Télécharger {name}")
        browsing.presses(Keys.ENTER)
        assert hashlib.sha256(browsing.downloaded(name)).digest() == hashlib.sha256(content).digest()
    browsing.tabs_to("Tout télécharger (ZIP)")
    browsing.presses(Keys.ENTER)
    browsing.waits(lambda: list(browsing.downloads.glob("pli-1-*.zip")))
    [path] = browsing.downloads.glob("pli-1-*.zip")
    with zipfile.ZipFile(io.BytesIO(browsing.downloaded(path.name))) as archive:
        assert archive.read("acte 1 _été_.pdf") == PDF
    # Not without the box: the browser itself says so, and nothing is sent.
    browsing.tabs_to("Confirmer la réception")
    browsing.presses(Keys.ENTER)
    assert "Acheminement" in browsing.page()
    browsing.browser.switch_to.active_element.send_keys(Keys.SHIFT, Keys.TAB)
    browsing.tabs_to("accord")
    browsing.presses(Keys.SPACE)
    browsing.tabs_to("Confirmer la réception")
    browsing.presses(Keys.ENTER)
    browsing.waits_for("La réception du pli n°\u00a01 (2026-001) est confirmée")
    assert not [link for link in browsing.finds("tbody a") if "2026-001" in link.text]
    browsing.follows("Réception confirmée")
    browsing.follows("2026-001")
    browsing.waits_for("Réception confirmée le")
    assert browsing.complaints() == []


def test_the_focus_is_always_seen_and_everything_has_a_name(town: House, browsing: Agent) -> None:
    browsing.logs_in(town.url, town.world.tokens["bonneville"])
    browsing.follows("2026-002")
    seen = []
    for _ in range(60):
        browsing.presses(Keys.TAB)
        focused = browsing.browser.switch_to.active_element
        if focused.tag_name == "body":
            break
        outline = browsing.browser.execute_script(
            "const s = getComputedStyle(document.activeElement); return s.outlineStyle + ' ' + s.outlineWidth"
        )
        assert outline == "solid 3px", focused.get_attribute("outerHTML")
        assert focused.accessible_name.strip(), focused.get_attribute("outerHTML")
        seen.append(focused.accessible_name)
    assert {"Se déconnecter", "Tout télécharger (ZIP)", "Confirmer la réception", "Envoyer"} <= set(seen)
    language = browsing.browser.find_element(By.TAG_NAME, "html").get_attribute("lang")
    assert language == "fr"
    assert [one.aria_role for one in browsing.finds("header, main, footer")] == [
        "banner",
        "main",
        "contentinfo",
    ]
    levels = [int(one.tag_name[1]) for one in browsing.finds("h1, h2, h3, h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert browsing.complaints() == []


def test_colours_are_told_apart_by_who_sees_little(town: House, browsing: Agent) -> None:
    """Each text against what lies behind it: 4.5 to 1 and more (WCAG 2, 1.4.3)."""
    browsing.logs_in(town.url, town.world.tokens["bonneville"])
    for path in ("/boite", "/boite/aide", "/boite/connexion?fin=1", "/boite/rien"):
        browsing.opens(town.url + path)
        assert browsing.browser.execute_script(_CONTRASTS) == [], path
    browsing.opens(f"{town.url}/boite")
    browsing.follows("2026-002")
    assert browsing.browser.execute_script(_CONTRASTS) == []
    browsing.complaints()


def test_on_a_phone_a_list_is_read_without_going_sideways_and_is_still_a_table(
    town: House, browsing: Agent
) -> None:
    browsing.logs_in(town.url, town.world.tokens["bonneville"])
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browsing.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for path in ("/boite", "/boite/recherche?q=2026-002", "/boite/aide"):
            browsing.opens(town.url + path)
            wide = browsing.browser.execute_script(
                "return [...document.querySelectorAll('body, body :not(thead, thead *)')]"
                ".filter(one => one.getBoundingClientRect().right > 360 || one.scrollWidth > 360)"
                ".map(one => one.outerHTML.slice(0, 120))"
            )
            assert wide == [], path
        browsing.opens(f"{town.url}/boite")
        # Said, for browsers that forget what a row is once it is shown as a block.
        assert browsing.finds("table")[0].get_attribute("role") == "table"
        assert {one.get_attribute("role") for one in browsing.finds("tr")} == {"row"}
        assert {one.get_attribute("role") for one in browsing.finds("tr > *")} == {
            "cell",
            "columnheader",
            "rowheader",
        }
        assert browsing.browser.execute_script(_CONTRASTS) == []
    finally:
        browsing.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert browsing.complaints() == []


def test_hostile_names_are_shown_as_text(town: House, browsing: Agent) -> None:
    browsing.logs_in(town.url, town.world.tokens["bonneville"])
    assert HOSTILE in browsing.page()
    browsing.follows("<script>")
    browsing.waits_for("Acheminement")
    assert browsing.page().count(HOSTILE) >= 2
    assert "onerror=alert(1)" in browsing.page()
    assert browsing.browser.title == f"Pli {HOSTILE} – Boîte de dépôt"
    assert browsing.finds("script, img, iframe, [onerror]") == []
    assert "\u202e" not in browsing.browser.page_source
    assert browsing.complaints() == []


def test_an_agent_reports_how_far_its_case_is(town: House, browsing: Agent) -> None:
    browsing.logs_in(town.url, town.world.tokens["bonneville"])
    browsing.follows("2026-003")
    browsing.browser.find_element(By.ID, "statut").send_keys("Traité")
    browsing.browser.find_element(By.ID, "message").send_keys("Acte envoyé par la poste.")
    browsing.tabs_to("Envoyer")
    browsing.presses(Keys.ENTER)
    browsing.waits_for("C’est enregistré")
    assert "État actuel du dossier\u00a0: Traité" in browsing.page()
    assert browsing.complaints() == []


def test_a_link_from_a_mail_on_the_web_opens_the_parcel_without_another_login(
    town: House, browsing: Agent
) -> None:
    browsing.logs_in(town.url, town.world.tokens["bonneville"])
    parcel = browsing.finds("tbody a")[0].get_attribute("href")
    page = f'<a href="{parcel}">Ouvrir</a>'.encode()

    class Webmail(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webmail) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            # Another site than the hub, which is called by its number.
            browsing.opens(f"http://localhost:{server.server_port}/")
            browsing.follows("Ouvrir")
            browsing.waits_for("Acheminement")
        finally:
            server.shutdown()
    browsing.complaints()


def test_several_parcels_are_found_and_acknowledged_by_the_keyboard_alone(
    town: House, browsing: Agent
) -> None:
    town.run(_more(town.world, "lot-1", "lot-2", "lot-3"))
    browsing.logs_in(town.url, town.world.tokens["bonneville"])
    for reference in ("lot-1", "lot-3"):
        browsing.tabs_to("q")
        browsing.presses(reference, Keys.ENTER)
        browsing.waits_for("1\u00a0pli trouvé")
        browsing.tabs_to(f"Ouvrir le pli {reference}")
        browsing.presses(Keys.ENTER)
        browsing.waits_for("Acheminement")
        browsing.follows("À relever")
    assert "Choisir le pli lot-2" not in browsing.page()
    for reference in ("lot-1", "lot-3"):
        browsing.tabs_to(f"Choisir le pli {reference}")
        browsing.presses(Keys.SPACE)
    browsing.tabs_to("accord")
    browsing.presses(Keys.SPACE)
    browsing.tabs_to("Confirmer la réception")
    browsing.presses(Keys.ENTER)
    browsing.waits_for("La réception de 2 plis est confirmée (lot-1, lot-3)")
    left = [link.text for link in browsing.finds("tbody a")]
    assert [
        reference for reference in ("lot-1", "lot-2", "lot-3") if any(reference in one for one in left)
    ] == ["lot-2"]
    assert browsing.complaints() == []


def test_who_leaves_has_left_also_for_the_button_that_goes_back(town: House, browsing: Agent) -> None:
    browsing.logs_in(town.url, town.world.tokens["bonneville"])
    browsing.follows("2026-002")
    browsing.tabs_to("Se déconnecter")
    browsing.presses(Keys.ENTER)
    browsing.waits_for("Vous êtes déconnecté")
    browsing.browser.back()
    browsing.waits_for("Jeton d’accès")
    assert "2026-002" not in browsing.page()
    assert browsing.complaints() == []


_CONTRASTS = """
const light = colour => {
  const [r, g, b] = colour.match(/[0-9.]+/g).map(Number)
    .map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = element => {
  for (let one = element; one; one = one.parentElement) {
    const colour = getComputedStyle(one).backgroundColor;
    if (!/, 0\\)$/.test(colour)) return colour;
  }
  return 'rgb(255, 255, 255)';
};
return [...document.body.querySelectorAll('*')]
  .filter(one => [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()))
  .filter(one => {
    const [a, b] = [light(getComputedStyle(one).color), light(behind(one))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05) < 4.5;
  })
  .map(one => one.outerHTML.slice(0, 120));
"""
