"""An agent of a town hall at a real browser, and the hub it looks at: for the tests of the mailbox's page.

The browser is the system's Chromium, without a window, with a profile of its own, that reaches this machine only.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.services.http_world import World, open_world

Result = TypeVar("Result")

PATIENCE = 60


@dataclass(slots=True)
class House:
    """A hub with its door, in a thread of its own: a browser's driver knows no event loops."""

    world: World
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return self.world.url

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)


@contextmanager
def house(dsn: str, folder: Path) -> Iterator[House]:
    begun = threading.Event()
    built: list[House] = []
    stopping = asyncio.Event()

    async def live() -> None:
        async with open_world(dsn, folder, grace=1.0) as world:
            built.append(House(world, asyncio.get_running_loop()))
            begun.set()
            await stopping.wait()

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    try:
        assert begun.wait(PATIENCE)
        yield built[0]
    finally:
        if built:
            built[0].loop.call_soon_threadsafe(stopping.set)
        thread.join(PATIENCE)


@dataclass(slots=True)
class Agent:
    """Somebody at the browser. `downloads`: where it keeps what is downloaded."""

    browser: Chrome
    downloads: Path

    def opens(self, url: str) -> None:
        self.browser.get(url)

    def presses(self, *keys: str) -> None:
        """To whatever has the focus."""
        for key in keys:
            self.browser.switch_to.active_element.send_keys(key)

    def tabs_to(self, text: str) -> WebElement:
        """By the keyboard alone: until what has this text, or this name, has the focus."""
        for _ in range(80):
            self.presses(Keys.TAB)
            focused = self.browser.switch_to.active_element
            if text in (focused.text, focused.get_attribute("name"), focused.accessible_name):
                return focused
        raise AssertionError(f"no tabulator leads to it: {text}")

    def logs_in(self, url: str, token: str) -> None:
        self.browser.delete_all_cookies()
        self.opens(f"{url}/boite")
        self.browser.find_element(By.NAME, "code").send_keys(token, Keys.ENTER)
        self.waits_for("Se déconnecter")

    def waits_for(self, text: str) -> None:
        self.waits(lambda: text in self.page())

    def waits(self, condition: Any) -> None:
        WebDriverWait(self.browser, PATIENCE, 0.05).until(lambda _: condition())

    def page(self) -> str:
        """What stands on it; asked at once, for a page may be gone between two questions."""
        return str(self.browser.execute_script("return document.body ? document.body.innerText : ''"))

    def finds(self, css: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, css)

    def follows(self, text: str) -> None:
        before = self.browser.find_element(By.TAG_NAME, "html").id
        self.browser.find_element(By.PARTIAL_LINK_TEXT, text).click()
        self.waits(lambda: self.browser.find_element(By.TAG_NAME, "html").id != before)

    def downloaded(self, name: str) -> bytes:
        """The file of this name, once it is whole."""
        path = self.downloads / name
        deadline = time.monotonic() + PATIENCE
        while not path.exists() or list(self.downloads.glob("*.crdownload")):
            assert time.monotonic() < deadline, sorted(one.name for one in self.downloads.iterdir())
            time.sleep(0.05)
        return path.read_bytes()

    def complaints(self) -> list[str]:
        """What the browser wrote to its console since it was asked last: errors, and what the policy forbade."""
        lines: list[dict[str, str]] = self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        return [line["message"] for line in lines if line["level"] in ("WARNING", "SEVERE")]


@contextmanager
def agent(folder: Path) -> Iterator[Agent]:
    driver, binary = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or binary is None:
        pytest.skip("no Chromium here; run: make system")
    downloads = folder / "downloads"
    downloads.mkdir(parents=True)
    options = ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless=new",
        # As root, whom its sandbox does not serve; it sees pages of this repository alone.
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
        "--window-size=1200,900",
        f"--user-data-dir={folder / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    ):
        options.add_argument(argument)
    options.add_experimental_option(
        "prefs", {"download.default_directory": str(downloads), "download.prompt_for_download": False}
    )
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options=options, service=Service(driver))
    try:
        browser.set_page_load_timeout(PATIENCE)
        yield Agent(browser, downloads)
    finally:
        browser.quit()
