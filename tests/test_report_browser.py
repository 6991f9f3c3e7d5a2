"""The report in a real browser: needs playwright and axe-playwright-python, and Chromium on the PATH."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from in_browser import Visit, browser, needs_chromium
from onecycle.report import write
from report_folders import find_folder, train_folder, tune_folder

__all__ = ["browser"]
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    return {
        "find": write(find_folder(folder / "find")),
        "train": write(train_folder(folder / "train")),
        "tune": write(tune_folder(folder / "tune")),
    }


@pytest.mark.parametrize("name", ["find", "train", "tune"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(name: str, scheme: str, reports: dict[str, Path], browser: Any) -> None:
    with Visit(browser, reports[name], color_scheme=scheme, bypass_csp=True) as visit:
        for details in visit.page.locator("details").all():
            details.evaluate("node => { node.removeAttribute('name'); node.open = true; }")
        found = axe.Axe().run(visit.page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("name", ["find", "train", "tune"])
def test_it_asks_for_nothing_and_complains_of_nothing(
    name: str, reports: dict[str, Path], browser: Any
) -> None:
    with Visit(browser, reports[name]) as visit:
        visit.page.wait_for_timeout(100)
        assert visit.requests == [reports[name].as_uri()]
        assert visit.complaints == []


@pytest.mark.parametrize("width", [320, 390, 800])
def test_it_fits_the_screen(width: int, reports: dict[str, Path], browser: Any) -> None:
    for path in reports.values():
        with Visit(browser, path, viewport={"width": width, "height": 800}) as visit:
            assert visit.page.evaluate("document.documentElement.scrollWidth") == width
            size = visit.page.evaluate(
                "() => { const svg = document.querySelector('.plot svg');"
                "return 12 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width; }"
            )
            assert size > 10  # pixels of the drawing's text


def test_200_trials_open_within_a_second(reports: dict[str, Path], browser: Any) -> None:
    page = browser.new_page()
    tools = page.context.new_cdp_session(page)
    # The processor's time, which other work on the machine does not stretch.
    tools.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(reports["tune"].as_uri())
    page.screenshot()
    assert page.locator(".tools").count() == page.locator("figure").count()
    metrics = {each["name"]: each["value"] for each in tools.send("Performance.getMetrics")["metrics"]}
    page.close()
    print(f"opened in {metrics['TaskDuration']:.2f} s")
    assert 0 < metrics["TaskDuration"] <= 1


def test_without_javascript_every_figure_is_there(reports: dict[str, Path], browser: Any) -> None:
    with Visit(browser, reports["tune"], java_script_enabled=False) as visit:
        assert visit.page.locator("figure .plot svg path").count() > 100
        assert visit.page.get_by_role("button").count() == 0
        visit.page.get_by_text("Lightning", exact=True).click()
        assert visit.page.get_by_text("trainer.fit(module, loader)").is_visible()


def test_hover_and_arrows_read_the_points(reports: dict[str, Path], browser: Any) -> None:
    with Visit(browser, reports["find"]) as visit:
        figure, output = visit.figure(0), visit.figure(0).locator("output")
        box = figure.locator("svg").first.bounding_box()
        visit.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert "learning rate" in output.inner_text()
        assert "smoothed" in output.inner_text()
        visit.page.mouse.move(1, 1)
        assert output.inner_text() == ""
        figure.locator(".plot").focus()
        visit.page.keyboard.press("Home")
        assert output.inner_text().startswith("learning rate 10⁻⁶: ")
        visit.page.keyboard.press("ArrowRight")
        assert not output.inner_text().startswith("learning rate 10⁻⁶: ")
        visit.page.keyboard.press("End")
        assert output.inner_text().startswith("learning rate 10: ")


def texts(figure: Any) -> list[str]:
    found: list[str] = figure.locator("svg > text").all_text_contents()
    return found


def test_zoom_and_back(reports: dict[str, Path], browser: Any) -> None:
    with Visit(browser, reports["find"]) as visit:
        figure = visit.figure(0)
        before = texts(figure)
        box = figure.locator("svg").first.bounding_box()
        visit.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 100)
        visit.page.mouse.down()
        visit.page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 120, steps=4)
        visit.page.mouse.up()
        zoomed = texts(figure)
        assert "10⁻⁶" in before
        assert "10⁻⁶" not in zoomed
        figure.get_by_role("button", name="reset").click()
        assert texts(figure) == before
        figure.locator(".plot").focus()
        visit.page.keyboard.press("+")
        assert texts(figure) != before
        visit.page.keyboard.press("0")
        assert texts(figure) == before
        assert figure.get_by_role("button", name="reset").is_hidden()


def test_what_the_script_draws_is_what_python_drew(reports: dict[str, Path], browser: Any) -> None:
    for path in reports.values():
        with Visit(browser, path) as visit:
            for figure in visit.page.locator("figure.chart").all():
                if figure.locator(".plot").evaluate("node => node.clientWidth") < 560:
                    continue
                drawn = texts(figure)
                lines = figure.locator("svg svg path").count()
                figure.locator(".plot").focus()
                visit.page.keyboard.press("0")
                assert texts(figure) == drawn
                assert figure.locator("svg svg path").count() == lines


def test_switches(reports: dict[str, Path], browser: Any) -> None:
    with Visit(browser, reports["find"]) as visit:
        figure = visit.figure(0)
        inner = figure.locator("svg svg path")
        assert inner.count() == 2
        smoothing = figure.get_by_role("button", name="smoothing")
        smoothing.click()
        assert smoothing.get_attribute("aria-pressed") == "false"
        assert inner.count() == 1
        smoothing.click()
        figure.get_by_role("button", name="loss of each mini-batch").click()
        assert inner.count() == 1
        scale = figure.get_by_role("button", name="log x")
        before = texts(figure)
        scale.click()
        assert scale.get_attribute("aria-pressed") == "false"
        assert {"2", "4", "6", "8", "10"} <= set(texts(figure))
        scale.click()
        assert texts(figure) == before
        figure.get_by_role("button", name="log y").click()
        assert texts(figure) != before


def test_copy(reports: dict[str, Path], browser: Any) -> None:
    permissions = ["clipboard-read", "clipboard-write"]
    with Visit(browser, reports["find"], permissions=permissions) as visit:
        button = visit.page.get_by_role("button", name="Copy PyTorch")
        button.click()
        visit.page.wait_for_function("document.querySelector('.code button').textContent === 'Copied'")
        text = visit.page.evaluate("navigator.clipboard.readText()")
        assert text.startswith("# yours: model, loss_fn, loader (batches of 64)\nimport torch\n")


def test_trials_are_sorted(reports: dict[str, Path], browser: Any) -> None:
    with Visit(browser, reports["tune"]) as visit:
        visit.page.get_by_text("200 trials", exact=True).click()
        table = visit.page.locator("table[data-sort]")
        table.get_by_role("button", name="Loss").click()
        cells = table.locator("tbody tr td:nth-child(9)").all_inner_texts()
        numbers = [float(cell) for cell in cells if cell != "diverged"]
        assert numbers == sorted(numbers)
        assert len(numbers) < len(cells)
        assert set(cells[len(numbers) :]) == {"diverged"}


def test_print_has_all_and_no_controls(reports: dict[str, Path], browser: Any) -> None:
    with Visit(browser, reports["find"]) as visit:
        visit.page.emulate_media(media="print")
        assert visit.page.get_by_role("button", name="smoothing").is_hidden()
        assert visit.page.get_by_text("trainer.fit(module, loader)").is_visible()
