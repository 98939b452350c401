"""The report in a real browser: what its first screen shows, how long it is, and that it asks for nothing."""

import shutil

import pytest
from helpers import ROOT

from apo_soup.report.page import read_reported, write_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
RECIPE = ROOT / "recipes" / "tiny"
SCREEN = 900

# What is too wide for its place, or beyond the screen's edge without a scroller around it.
WIDE = """() => [...document.querySelectorAll('figure, li, p, h1, h2, .answers > div, dd, summary')]
  .filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline')
  .map(e => e.outerHTML.slice(0, 90))"""
# Text of a drawing that its edge cuts, or that lies on another one.
CLIPPED = """() => [...document.querySelectorAll('svg:not(.strip)')].flatMap(s => {
  if (!s.getClientRects().length) return [];
  const edge = s.getBoundingClientRect(), found = [];
  const words = [...s.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
  for (const [text, box] of words)
    if (box.left < edge.left - 1 || box.right > edge.right + 1 || box.bottom > edge.bottom + 1) found.push(text);
  for (let i = 0; i < words.length; i++) for (let j = 0; j < i; j++) {
    const [a, b] = [words[i][1], words[j][1]];
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (across > 1 && down > 3) found.push(words[i][0] + ' on ' + words[j][0]);
  }
  return found; })"""
# The least contrast of text with the page, by WCAG's relative luminance.
CONTRAST = """() => {
  const part = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const shine = c => c.match(/[\\d.]+/g).slice(0, 3)
    .reduce((all, v, i) => all + part(v / 255) * [.2126, .7152, .0722][i], 0);
  const paper = shine(getComputedStyle(document.body).backgroundColor);
  const texts = [...document.querySelectorAll('p, small, td, th, dt, .good, .bad, a, svg text')];
  return Math.min(...texts.map(e => {
    const style = getComputedStyle(e), ink = shine(e.namespaceURI.endsWith('svg') ? style.fill : style.color);
    return (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05); })); }"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_shows_the_page_whole_at_both_widths_and_in_both_schemes(demo_run, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    page = write_report(RECIPE, read_reported(RECIPE, demo_run)).as_uri()
    requests, complaints = [], []
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=arguments)
        try:
            view = browser.new_page()
            view.on("request", lambda request: requests.append(request.url))
            view.on("console", lambda message: complaints.append(message.text))
            view.on("pageerror", lambda error: complaints.append(str(error)))
            for width in (1400, 390):
                view.set_viewport_size({"width": width, "height": SCREEN})
                for scheme in ("light", "dark"):
                    view.emulate_media(color_scheme=scheme)
                    view.goto(page)
                    assert view.evaluate("document.documentElement.scrollWidth") <= width
                    assert view.evaluate(WIDE) == []
                    assert view.evaluate(CLIPPED) == []
                    assert view.evaluate(CONTRAST) >= 4.5
                    view.screenshot(path=tmp_path / f"{width}-{scheme}.png", full_page=True)
                screens = view.evaluate("document.documentElement.scrollHeight") / SCREEN
                assert screens < {1400: 5, 390: 11}[width]
                assert _bottom(view, "header") <= SCREEN, "model, figures and verdict are the first screen"
                assert view.locator("header .figures li").count() == 3
                box = view.locator("table.verdicts tbody tr:last-child td:nth-child(2)").first.bounding_box()
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= width, "the verdict is seen without scrolling"
                drawn = [name for name in ("across", "down") if view.locator(f"svg.{name}").is_visible()]
                assert drawn == [{1400: "across", 390: "down"}[width]]
            view.emulate_media(media="print", color_scheme="light")
            assert view.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        finally:
            browser.close()
    assert set(requests) == {page}
    assert complaints == []


def _bottom(view, selector: str) -> float:
    box = view.locator(selector).bounding_box()
    return box["y"] + box["height"]
