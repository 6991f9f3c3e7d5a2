"""The built documentation in a real browser, opened as files."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from in_browser import Visit, browser, needs_chromium

__all__ = ["browser"]
pytestmark = needs_chromium
DOCS = Path(__file__).parent.parent / "docs"
FAULTS = """() => [
    ...document.documentElement.scrollWidth > innerWidth
        ? [`${document.documentElement.scrollWidth} pixels wide on a screen of ${innerWidth}`] : [],
    ...[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => `no picture ${i.src}`),
    ...[...document.images].filter(i => !i.alt).map(i => `no words for ${i.src}`),
]"""
DEAD = """() => [...document.querySelectorAll('a[href*="#"]')]
    .filter(a => a.pathname === location.pathname && a.hash.length > 1)
    .filter(a => !document.getElementById(decodeURIComponent(a.hash.slice(1)))).map(a => a.hash)"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built anew: all cross references must lead somewhere."""
    if find_spec("furo") is None:
        pytest.skip("sphinx and furo are not installed")
    folder = tmp_path_factory.mktemp("site")
    build: list[str | Path] = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "-q",
        "-b",
        "html",
        DOCS,
        folder,
        "-d",
        folder / "trees",
    ]
    subprocess.run(build, check=True)
    return folder


@pytest.mark.parametrize(
    "look",
    [
        {"viewport": {"width": 1280, "height": 900}},
        {"viewport": {"width": 360, "height": 800}, "is_mobile": True, "color_scheme": "dark"},
    ],
    ids=["screen", "phone"],
)
def test_every_page_fits_and_has_its_pictures(look: dict[str, Any], site: Path, browser: Any) -> None:
    found = {}
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for path in pages:
        with Visit(browser, path, **look) as visit:
            visit.page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
            visit.page.wait_for_load_state("networkidle")
            outside = [f"asks for {url}" for url in visit.requests if not url.startswith(("file:", "data:"))]
            faults = [*visit.page.evaluate(FAULTS), *visit.page.evaluate(DEAD), *visit.complaints, *outside]
            if faults:
                found[path.name] = faults
    assert found == {}


def test_search_works_without_a_server(site: Path, browser: Any) -> None:
    with Visit(browser, site / "index.html") as visit:
        visit.page.get_by_label("Search").first.fill("weight decay")
        visit.page.keyboard.press("Enter")
        visit.page.get_by_text("Search finished").wait_for()
        assert "weight+decay" in visit.page.url
        visit.page.get_by_role("link", name="Why it works > Weight decay").click()
        visit.page.wait_for_url("**/science.html*")
        assert visit.page.get_by_role("heading", name="Weight decay").is_visible()
        assert visit.complaints == []
