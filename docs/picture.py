"""Write docs/report.png: the first screen of a run's report, as a browser shows it. Needs Chromium.

python docs/picture.py runs/tiny/report.html
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parent / "report.png"
WIDTH = 1000


def main(words: list[str]) -> int:
    """Open the page that `words` name, and keep what its header shows."""
    page = Path(words[0]).resolve()
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        view = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        view.goto(page.as_uri())
        box = view.locator("header").first.bounding_box()
        assert box is not None, "the page has no header"
        view.screenshot(path=PICTURE, clip={"x": 0, "y": 0, "width": WIDTH, "height": box["y"] + box["height"] + 16})
        browser.close()
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
