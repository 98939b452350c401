"""The report in a real browser: nothing asked from outside, no error, nothing wider than the screen."""

import shutil

import pytest
from helpers import ROOT

from apo_soup.report.page import write_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, 1400])
def test_a_browser_shows_the_page_whole_and_asks_for_nothing(run, width):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    page = write_report(ROOT / "recipes" / "tiny", run).as_uri()
    requests, complaints = [], []
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        try:
            for scheme in ("light", "dark"):
                view = browser.new_page(
                    viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=True
                )
                view.on("request", lambda request: requests.append(request.url))
                view.on("console", lambda message: complaints.append(message.text))
                view.on("pageerror", lambda error: complaints.append(str(error)))
                view.goto(page)
                inside = "document.documentElement.scrollWidth <= window.innerWidth"
                assert view.evaluate(inside), "the page is not wider than the screen"
                cards = "[...document.querySelectorAll('.answers > div, figure, li')]"
                wide = f"{cards}.filter(e => e.scrollWidth > e.clientWidth + 1).length"
                assert view.evaluate(wide) == 0, "no card, figure or entry is wider than its place"
                assert view.locator("svg").count() > 8
        finally:
            browser.close()
    assert set(requests) == {page}
    assert complaints == []
