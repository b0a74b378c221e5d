"""The report in a real browser: drawn, readable on a phone, and usable by keyboard. Skipped without Chromium."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from html_runs import hostile_runs, predictions, two_rungs

from hotlap.report.html.comparison_section import comparison_section
from hotlap.report.html.page import about, render, report_sections, timing_note
from hotlap.report.html.predictions_section import predictions_section
from hotlap.report.html.selection import Selection

CHROMIUM = Path(os.environ.get("HOTLAP_CHROMIUM", "/usr/bin/chromium"))
DRIVER = Path(os.environ.get("HOTLAP_CHROMEDRIVER", "/usr/bin/chromedriver"))
PATIENCE_S = 60

if not (CHROMIUM.exists() and DRIVER.exists()):
    pytest.skip("needs the system's packages chromium and chromium-driver", allow_module_level=True)
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install 'hotlap[dev]'")

OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    runs = [*two_rungs(), *hostile_runs()]
    names = ["a class with a rather long name", "<b>dog</b>", "cat", "ape"]
    others = [
        comparison_section("mnist/7-narrower", "mnist", runs)[0],
        predictions_section(*predictions(), names),
    ]
    text = render("report", report_sections(Selection(runs=runs), others), lead=[about(runs), timing_note(runs)])
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(text, encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def show(browser: Any, page: str) -> Callable[..., None]:
    def load(*, width: int = 1280, dark: bool = False) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        # Where motion is reduced, scrolling jumps: clicks need not wait for it.
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, still]})
        browser.get(page)
        browser.execute_script("try { localStorage.clear() } catch {}")
        browser.refresh()
        wait(browser, "return document.querySelector('.canvas .main-svg') !== null")

    return load


def wait(browser: Any, script: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := browser.execute_script(script)):
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {script}"
        time.sleep(0.05)
    return found


def complaints(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def draw_all(browser: Any) -> int:
    """Scroll along the page, so that every plot is drawn; returns how many there are."""
    count = int(browser.execute_script("return document.querySelectorAll('.canvas').length"))
    for index in range(count):
        one = f"document.querySelectorAll('.canvas')[{index}]"
        browser.execute_script(f"{one}.scrollIntoView({{block: 'center'}})")
        wait(browser, f"return {one}.querySelector('.main-svg') !== null")
    return count


def column(browser: Any, caption: str, index: int) -> list[str]:
    script = """
        const table = [...document.querySelectorAll("table")].find((t) => t.caption.textContent === arguments[0]);
        return [...table.tBodies[0].rows].map((row) => row.cells[arguments[1]].textContent);
    """
    found: list[str] = browser.execute_script(script, caption, index)
    return found


def header(browser: Any, caption: str, index: int) -> Any:
    script = """
        const table = [...document.querySelectorAll("table")].find((t) => t.caption.textContent === arguments[0]);
        return table.tHead.rows[0].cells[arguments[1]];
    """
    return browser.execute_script(script, caption, index)


@pytest.mark.parametrize("dark", [False, True])
def test_opens_from_a_file_without_a_complaint_and_draws_every_plot(
    browser: Any, show: Callable[..., None], dark: bool
) -> None:
    complaints(browser)
    show(dark=dark)
    assert draw_all(browser) >= 12
    assert complaints(browser) == []
    assert browser.title == "report", "no name was executed"
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert [name for name in loaded if not name.startswith(("data:", "blob:"))] == []


def test_names_stand_in_plots_as_they_are(browser: Any, show: Callable[..., None]) -> None:
    show()
    draw_all(browser)
    drawn = browser.execute_script("return [...document.querySelectorAll('.ytick text')].map((t) => t.textContent)")
    assert "<b>dog</b>" in drawn
    assert "a class with a rather l…" in drawn


def test_hovering_shows_a_label(browser: Any, show: Callable[..., None]) -> None:
    from selenium.webdriver import ActionChains

    show()
    browser.execute_script("document.querySelector('.canvas').scrollIntoView({block: 'center'})")
    points = browser.find_elements("css selector", ".canvas:first-of-type .scatterlayer .trace:last-child .point")
    ActionChains(browser).move_to_element(points[0]).perform()
    label = wait(browser, "return document.querySelector('.hoverlayer .hovertext')?.textContent")
    assert "7-narrower" in label and "measured" in label


def test_tables_sort_by_click_and_by_keyboard(browser: Any, show: Callable[..., None]) -> None:
    from selenium.webdriver.common.keys import Keys

    show()
    recipes = column(browser, "All recipes", 0)
    time_header = header(browser, "All recipes", 6)
    time_header.find_element("tag name", "button").click()
    assert time_header.get_attribute("aria-sort") == "descending"
    assert column(browser, "All recipes", 0)[0] == "mnist/7-narrower"
    assert column(browser, "All recipes", 6)[-1] == "9.00 s ‡", "by number, not by text"
    name = header(browser, "All recipes", 0).find_element("tag name", "button")
    browser.execute_script("arguments[0].focus()", name)
    name.send_keys(Keys.ENTER)
    assert column(browser, "All recipes", 0) == sorted(recipes)
    name.send_keys(Keys.SPACE)
    assert column(browser, "All recipes", 0) == sorted(recipes, reverse=True)
    assert header(browser, "All recipes", 0).get_attribute("aria-sort") == "descending"
    assert time_header.get_attribute("aria-sort") is None


def test_what_is_missing_stays_at_the_end(browser: Any, show: Callable[..., None]) -> None:
    show()
    caption = browser.execute_script("return document.querySelector('table').caption.textContent")
    button = header(browser, caption, 7).find_element("tag name", "button")
    for _ in range(2):
        button.click()
        assert column(browser, caption, 7)[2:] == ["–"] * 7


def test_the_focus_can_be_seen_and_the_skip_link_leads_to_the_content(browser: Any, show: Callable[..., None]) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    show()
    ActionChains(browser).send_keys(Keys.TAB).perform()
    assert browser.switch_to.active_element.text == "Skip to content"
    assert browser.switch_to.active_element.rect["x"] >= 0
    assert browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "content"


def colours(browser: Any) -> tuple[str, str]:
    """Background of the page, and the colour of a plot's text."""
    script = """
        const text = document.querySelector(".canvas .ytick text, .canvas .xtick text");
        return [getComputedStyle(document.body).backgroundColor, getComputedStyle(text).fill];
    """
    background, text = browser.execute_script(script)
    return background, text


def test_dark_colours_by_the_system_and_by_the_button(browser: Any, show: Callable[..., None]) -> None:
    show(dark=True)
    dark = colours(browser)
    show()
    light = colours(browser)
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] != light[0] and dark[1] != light[1]
    button = browser.find_element("id", "theme")
    assert button.text == "Dark colours"
    button.click()
    assert button.text == "Light colours"
    assert colours(browser) == dark
    button.click()
    assert colours(browser) == light


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_is_wider_than_a_narrow_screen(browser: Any, show: Callable[..., None], width: int) -> None:
    show(width=width)
    draw_all(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    wide = browser.execute_script(
        "return [...document.querySelectorAll('.canvas .main-svg')].filter((s) => s.getBoundingClientRect().right > "
        "innerWidth).length"
    )
    assert wide == 0, "plots fit"
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('.scroll')].filter((s) => s.scrollWidth > s.clientWidth).length"
    )
    assert boxes > 0, "wide tables scroll in their own box"


def test_plots_follow_the_window(browser: Any, show: Callable[..., None]) -> None:
    show(width=1280)
    size = {"width": 500, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wait(browser, "return document.querySelector('.canvas .main-svg').getBoundingClientRect().right <= 500")


def test_printing_is_light_and_has_every_plot(browser: Any, show: Callable[..., None]) -> None:
    show(dark=True)
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    wait(browser, "return [...document.querySelectorAll('.canvas')].every((c) => c.querySelector('.main-svg'))")
    assert colours(browser)[0] == "rgb(255, 255, 255)"
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert colours(browser)[0] != "rgb(255, 255, 255)"
