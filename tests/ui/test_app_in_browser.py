"""The page in a real browser: rows, two models that answer side by side, at both widths and in both schemes."""

import os
import shutil
import signal

import pytest
from helpers import chat
from ui_helpers import EVIL, recipe_with_models, started

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDE = """() => [...document.querySelectorAll('p, h1, h2, li, article, .lane, label, .turn, button')]
  .filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline')
  .map(e => e.outerHTML.slice(0, 90))"""


@pytest.fixture
def served(tmp_path, tiny_model, talking_model):
    """A page that asks for a token; its address and the program."""
    rows = [chat("What is 1 + 1?", "It is 2.", False), chat(EVIL, "\u05e9\u05dc\u05d5\u05dd, no.", False)]
    rows += [chat(f"What is {n} + 1?", f"It is {n + 1}. " + "word " * 60, False) for n in range(20)]
    page, url = started(
        recipe_with_models(tmp_path, rows, {"one": talking_model, "two": tiny_model}), "--port", "0", "--token"
    )
    yield url
    os.kill(page.ids[0], signal.SIGINT)
    assert page.wait(30).returncode == 0


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_shows_rows_and_two_models_that_answer_side_by_side(served, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    complaints, requests = [], []
    base, _, token = served.partition("#token=")
    with sync_api.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=BROWSER, args=arguments)
        try:
            view = browser.new_page()
            view.set_default_timeout(90_000)  # of a machine with much else to do
            view.goto(served)
            view.wait_for_selector("text=Up to date or stale")
            assert view.url == base, "the token is gone from the address"
            view.on("console", lambda message: complaints.append(message.text))
            view.on("pageerror", lambda error: complaints.append(str(error)))
            view.on("dialog", lambda dialog: complaints.append("a dialog"))
            view.on("request", lambda request: requests.append((request.url, request.headers.get("referer"))))
            view.goto(base)
            view.wait_for_selector("#states li.stale")
            _shown_well(view, tmp_path / "home")
            view.click("text=Rows")
            assert view.locator("article").count() == 10
            assert view.locator("article mark").first.inner_text() == "It is 2."
            assert EVIL in view.locator("article pre").nth(1).inner_text()
            _shown_well(view, tmp_path / "rows")
            view.click("a[rel=next]")
            assert "row 11" in view.locator("article h3").first.inner_text()
            view.click("text=Chat")
            _answers(view, tmp_path)
            for path in ("refused", "curves", "report"):
                view.goto(base + path)
                _shown_well(view, tmp_path / path)
        finally:
            browser.close()
    assert complaints == []
    assert all(url.startswith((base, "data:")) for url, _ in requests)
    assert not any(token in url or referer for url, referer in requests)


def _shown_well(view, place) -> None:
    """Nothing is wider than the screen, at both widths and in both schemes."""
    for width in (1400, 390):
        view.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            view.emulate_media(color_scheme=scheme)
            assert view.evaluate("document.documentElement.scrollWidth") <= width
            assert view.evaluate(WIDE) == []
            view.screenshot(path=f"{place}-{width}-{scheme}.png", full_page=True)
    view.set_viewport_size({"width": 1400, "height": 900})


def _answers(view, folder) -> None:
    """Two models in two modes, two turns; then one that is stopped, and none that has begun anew."""
    view.select_option("select[name=left]", "one")
    view.select_option("select[name=right]", "two")
    assert [head.split() for head in view.locator(".lane h2").all_inner_texts()] == [
        ["one", "think"], ["two", "think"], ["one", "no", "think"], ["two", "no", "think"],
    ]  # fmt: skip
    view.fill("[name=most]", "12")
    view.fill("[name=system]", "Be kind.")
    for turns, question in enumerate(("What is 1 + 1?", "<b>And 2?</b>"), 1):
        view.fill("[name=question]", question)
        view.press("[name=question]", "Enter")
        view.wait_for_selector("#send:enabled")
        counts = view.locator(".count").all_inner_texts()
        assert len(counts) == 4 * turns
        assert all(" tokens in " in count for count in counts), counts
    assert view.locator(".turn.user").all_inner_texts()[1::2] == ["<b>And 2?</b>"] * 4
    assert view.locator(".turn b").count() == 0
    _shown_well(view, folder / "chat")
    view.fill("[name=most]", "400")
    view.select_option("select[name=left]", "two")
    view.select_option("select[name=mode]", "no_think")
    view.fill("[name=question]", "Again?")
    view.click("#send")
    view.wait_for_selector(".count:text-is('writes')")
    view.click("#stop")
    view.wait_for_selector(".count:text('stopped after')")
    view.wait_for_selector("#anew:enabled")
    view.click("#anew")
    assert view.locator(".turn").count() == 0
