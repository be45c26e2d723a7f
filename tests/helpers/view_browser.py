"""A real browser for the tests of the page; they are skipped, with the reason, where there is none."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
SHOTS = Path(__file__).resolve().parents[2] / "out" / "view"
SERIOUS = ("serious", "critical")


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser here ({', '.join(NAMES)}); scripts/system_packages.sh installs one")
    flags = ["--enable-unsafe-swiftshader"]
    flags += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=found, args=flags)
        yield opened
        opened.close()


@contextlib.contextmanager
def tab(opened: Browser, dark: bool = False, known: str = "\n") -> Iterator[Page]:
    """A fresh tab in which every error of a script and every refusal of the policy fails the test, but for those that
    say ``known``."""
    context = opened.new_context(viewport={"width": 1400, "height": 1000}, color_scheme="dark" if dark else "light")
    page, wrong = context.new_page(), list[str]()

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error" and known not in message.text:
            wrong.append(f"{message.text}: {message.location['url']}")

    page.on("console", listen)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    context.close()
    assert not wrong, wrong


def keep(page: Page, name: str) -> None:
    """A screenshot among the artefacts, ``out/view/``."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def faults(page: Page) -> list[str]:
    """What axe finds that keeps people out."""
    found = Axe().run(page).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found if v["impact"] in SERIOUS]
