"""The leaderboard's page: its markup, and how it behaves in a real browser (headless Chromium)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from support.made_entries import VERIFIED, change, find_protocol, write_entry

from metaevents.benchmark.leaderboard import tables
from metaevents.benchmark.render_html import render_html
from metaevents.benchmark.validation import admit

HOSTILE = '"><img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'
MOVED = "one by one, 25 of 25 queries had scores that moved"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tied, transductive, verified, overlapping, hostile, very long, and subset entries."""
    place = tmp_path_factory.mktemp("entries")
    change(write_entry(place, "alpha", 0.90, parameters=1000), "verified", to=VERIFIED)
    write_entry(place, "beta", 0.9005, parameters=None)
    write_entry(place, "gamma", 0.95, parameters=5, transductive=True, transductive_evidence=MOVED)
    write_entry(
        place, "delta", 0.99, overlap="recordings of the test partition", parameters=90_000_000
    )
    hostile: dict[str, Any] = dict.fromkeys(
        ("citation", "command", "other_data", "hardware", "notes"), HOSTILE
    )
    hostile |= {
        "name": f"evil {HOSTILE}"[:80],
        "authors": [HOSTILE],
        "code": "https://example.org/" + "a" * 270,
    }
    write_entry(
        place,
        "epsilon",
        0.6,
        method=hostile,
        learner=HOSTILE,
        parameters=20,
        seen={HOSTILE: HOSTILE},
    )
    write_entry(place, "zeta", 0.55, method={"name": "W" * 80, "command": "x" * 2000}, parameters=7)
    write_entry(place, "sampled", 0.7, protocol=find_protocol("sample-5way-1shot"))
    return place


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return render_html(tables(admit(folder)))


# --- markup --------------------------------------------------------------------------------------


class _Collector(HTMLParser):
    """All elements of a page as (tag, attributes), and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_elements_are_closed_in_order(html: str) -> None:
    assert _Collector(html).open == []


def test_nothing_in_an_entry_becomes_markup(html: str) -> None:
    found = _Collector(html)
    tags = [tag for tag, _ in found.elements]
    assert tags.count("script") == 1
    assert "img" not in tags
    assert not [
        name for _, attributes in found.elements for name in attributes if name.startswith("on")
    ]
    assert found.text.count(HOSTILE) >= 6


def test_links_lead_to_https_or_within_the_page(html: str) -> None:
    links = [attributes for tag, attributes in _Collector(html).elements if tag == "a"]
    assert links
    for attributes in links:
        assert re.match(r"https://|#", attributes["href"] or "")
        if not (attributes["href"] or "").startswith("#"):
            assert {"nofollow", "noopener", "noreferrer"} <= set((attributes["rel"] or "").split())


def test_the_page_loads_nothing(html: str) -> None:
    for tag, attributes in _Collector(html).elements:
        assert "src" not in attributes
        assert "srcset" not in attributes
        assert "style" not in attributes, "the page's policy forbids style attributes"
        if tag == "link":
            assert (attributes["href"] or "").startswith("data:")
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|\bimport\b", html)
    assert [
        True
        for tag, attributes in _Collector(html).elements
        if "default-src 'none'" in (attributes.get("content") or "")
    ]


def test_the_policy_allows_exactly_the_inline_style_and_script(html: str) -> None:
    (policy,) = (
        attributes["content"] or ""
        for _, attributes in _Collector(html).elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_equal_entries_give_an_equal_page(folder: Path, html: str) -> None:
    assert render_html(tables(admit(folder))) == html


def test_ids_are_unique_and_what_refers_to_them_finds_them(html: str) -> None:
    elements = [attributes for _, attributes in _Collector(html).elements]
    ids = [attributes["id"] for attributes in elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for attributes in elements:
        for name in ("aria-controls", "aria-labelledby"):
            assert attributes.get(name, ids[0]) in ids
        if (attributes.get("href") or "").startswith("#"):
            assert (attributes["href"] or "")[1:] in ids


def test_intervals_lie_within_their_bars_and_around_the_mean(html: str) -> None:
    bars = re.findall(r'<svg[^>]*class="bar"[^>]*>.*?</svg>', html, re.S)
    assert len(bars) == 7
    for bar in bars:
        x, width = (
            float(value)
            for value in re.search(r'<rect x="([\d.]+)%" width="([\d.]+)%"', bar).groups()
        )  # type: ignore[union-attr]
        wide = re.search(r'<line x1="([\d.]+)%" x2="([\d.]+)%" class="recordings"', bar)
        mean = re.search(r'<line x1="([\d.]+)%" x2="[\d.]+%" y1="1" y2="17" class="mean"', bar)
        assert wide is not None
        assert mean is not None
        assert 0 <= float(wide[1]) <= x <= float(mean[1]) <= x + width <= float(wide[2]) <= 100


def test_an_empty_leaderboard_gives_a_page() -> None:
    assert "No entry yet" in _Collector(render_html([])).text


# --- in the browser ------------------------------------------------------------------------------

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1280,1000",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed; pip install selenium"
    )
    chromium = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip(
            "Chromium and chromedriver are not installed; on Debian: "
            "apt-get install chromium chromium-driver"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


class _Page:
    """What a reader can see and do on the page."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser, self.address = browser, address

    def load(self, anchor: str = "") -> None:
        self.browser.get("about:blank")
        self.browser.get(self.address + anchor)

    def js(self, code: str, *arguments: Any) -> Any:
        return self.browser.execute_script(code, *arguments)

    def find(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def rows(self, table: int = 0) -> list[str]:
        """The entries that are to be seen in a table, from top to bottom."""
        return self.js(  # type: ignore[no-any-return]
            "return [...document.querySelectorAll('section.table')[arguments[0]]"
            ".querySelectorAll('tbody')].filter(row => row.getBoundingClientRect().height > 0)"
            ".map(row => row.id.split('-').pop())",
            table,
        )

    def heading(self, key: str) -> Any:
        return self.find(f"section.table thead button[data-key={key}]")

    def sorted_by(self) -> dict[str, str]:
        return self.js(  # type: ignore[no-any-return]
            "return Object.fromEntries("
            "[...document.querySelector('section.table').querySelectorAll('thead th')]"
            ".map(th => [th.querySelector('button').dataset.key, th.getAttribute('aria-sort')])"
            ".filter(pair => pair[1] !== 'none'))"
        )

    def choose(self, setting: str) -> None:
        self.find(f"input[name=setting][value={setting}]").click()

    def of(self, entry: str, selector: str) -> Any:
        return self.find(f"tbody[id$='-{entry}'] {selector}")

    def screen(self, width: int, height: int, dark: bool = False) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": width < 600}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, still]})


@pytest.fixture(scope="module")
def address(html: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("site") / "index.html"
    path.write_text(html, "utf-8")
    return path.as_uri()


@pytest.fixture
def shown(browser: Any, address: str) -> Iterator[_Page]:
    """The page on a desktop screen; a test fails if it sent a request or logged a warning."""
    from selenium.webdriver.support.ui import WebDriverWait

    opened = _Page(browser, address)
    opened.screen(1280, 1000)
    browser.get_log("performance")
    browser.get_log("browser")
    opened.load()
    WebDriverWait(browser, 20).until(
        lambda _: opened.js("return document.readyState === 'complete'")
    )
    yield opened
    assert opened.js("return window.pwned === undefined"), "an entry's text ran as a script"
    asked = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    urls = [
        event["params"]["request"]["url"]
        for event in asked
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert urls
    assert [url for url in urls if not url.startswith(("file:", "data:", "about:"))] == []
    assert [
        line for line in browser.get_log("browser") if line["level"] in ("SEVERE", "WARNING")
    ] == []


def test_rows_come_best_first_with_the_unranked_last(shown: _Page) -> None:
    assert shown.rows() == ["gamma", "alpha", "beta", "epsilon", "zeta", "delta"]
    assert shown.sorted_by() == {"rank": "ascending"}


def test_clicking_a_heading_sorts_and_clicking_again_reverses_the_order(shown: _Page) -> None:
    shown.heading("accuracy").click()
    assert shown.sorted_by() == {"accuracy": "descending"}
    assert shown.rows() == ["delta", "gamma", "alpha", "beta", "epsilon", "zeta"]
    shown.heading("accuracy").click()
    assert shown.sorted_by() == {"accuracy": "ascending"}
    assert shown.rows() == ["zeta", "epsilon", "beta", "alpha", "gamma", "delta"]
    shown.heading("method").click()
    assert shown.rows() == ["alpha", "beta", "delta", "epsilon", "gamma", "zeta"]


def test_entries_without_a_value_come_last_both_ways(shown: _Page) -> None:
    shown.heading("parameters").click()
    assert shown.rows() == ["gamma", "zeta", "epsilon", "alpha", "delta", "beta"]
    shown.heading("parameters").click()
    assert shown.rows() == ["delta", "alpha", "epsilon", "zeta", "gamma", "beta"]


def test_headings_sort_from_the_keyboard(shown: _Page) -> None:
    from selenium.webdriver.common.keys import Keys

    shown.heading("status").send_keys(Keys.ENTER)
    assert shown.sorted_by() == {"status": "descending"}
    assert shown.rows()[0] == "alpha"
    shown.heading("method").send_keys(Keys.SPACE)
    assert shown.sorted_by() == {"method": "ascending"}


def test_sorting_one_table_leaves_the_others(shown: _Page) -> None:
    order = (
        "return document.querySelectorAll('section.table')[1]"
        ".querySelector('th').getAttribute('aria-sort')"
    )
    before = shown.js(order)
    shown.heading("method").click()
    assert before == shown.js(order) == "ascending"


def test_the_filter_shows_the_ranks_and_ties_of_the_chosen_setting(shown: _Page) -> None:
    assert shown.of("alpha", ".number").text == "2"
    assert not shown.of("gamma", ".standing").is_displayed()
    shown.choose("inductive")
    assert shown.rows() == ["alpha", "beta", "epsilon", "zeta", "delta"]
    assert shown.of("alpha", ".number").text == "1"
    assert not shown.of("alpha", ".standing").is_displayed()
    assert shown.of("beta", ".standing").text == "tied with rank 1"
    assert not shown.of("epsilon", ".standing").is_displayed()
    assert shown.find("[role=status]").text == "6 entries shown"
    shown.choose("all")
    assert shown.of("alpha", ".number").text == "2"
    assert not shown.of("beta", ".standing").is_displayed()


def test_a_table_without_an_entry_of_the_setting_says_so(shown: _Page) -> None:
    shown.choose("transductive")
    assert shown.rows() == ["gamma"]
    assert shown.rows(1) == []
    assert [
        element.is_displayed() for element in shown.browser.find_elements("css selector", ".none")
    ] == [False, True]
    assert shown.find("[role=status]").text == "1 entry shown"


def test_the_filter_works_from_the_keyboard(shown: _Page) -> None:
    from selenium.webdriver.common.keys import Keys

    shown.find("input[name=setting][value=all]").send_keys(Keys.ARROW_RIGHT)
    assert (
        shown.js("return document.querySelector('input[name=setting]:checked').value")
        == "inductive"
    )
    assert "gamma" not in shown.rows()


def test_an_entry_opens_to_its_details_and_closes(shown: _Page) -> None:
    opener, details = shown.of("alpha", ".opener"), shown.of("alpha", "tr.details")
    assert not details.is_displayed()
    assert opener.get_attribute("aria-expanded") == "false"
    opener.click()
    assert details.is_displayed()
    assert opener.get_attribute("aria-expanded") == "true"
    said = details.text
    for words in (
        "Hanna Other",
        "reran the released weights",
        "1 NVIDIA H100",
        "evaluate few_events:learner",
        "SHA-256",
    ):
        assert words in said
    opener.click()
    assert not details.is_displayed()


def test_an_entry_opens_from_the_keyboard_and_by_a_click_on_its_row(shown: _Page) -> None:
    from selenium.webdriver.common.keys import Keys

    shown.of("beta", ".opener").send_keys(Keys.ENTER)
    assert shown.of("beta", "tr.details").is_displayed()
    shown.of("gamma", "td.parameters").click()
    assert shown.of("gamma", "tr.details").is_displayed()
    assert MOVED in shown.of("gamma", "tr.details").text


def test_details_follow_their_entry_when_it_is_sorted(shown: _Page) -> None:
    shown.of("zeta", ".opener").click()
    shown.heading("method").click()
    entry, details = (shown.of("zeta", row).rect for row in ("tr.entry", "tr.details"))
    assert details["y"] == pytest.approx(entry["y"] + entry["height"], abs=2)


def test_hostile_text_is_shown_as_text(shown: _Page) -> None:
    shown.of("epsilon", ".opener").click()
    assert HOSTILE in shown.of("epsilon", "tr.details").text
    assert shown.js("return document.querySelectorAll('img').length") == 0


def test_an_entry_has_its_own_url(shown: _Page) -> None:
    name = shown.js("return document.querySelector('tbody[id$=-beta]').id")
    shown.load(f"#{name}")
    assert shown.of("beta", "tr.details").is_displayed()
    assert not shown.of("alpha", "tr.details").is_displayed()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_has_enough_contrast(shown: _Page, dark: bool) -> None:
    """WCAG 2.2, contrast (minimum): 4.5 to 1 for every text on the page, with details open."""
    shown.screen(1280, 1000, dark)
    shown.js("document.querySelectorAll('tr.details').forEach(row => row.classList.add('open'))")
    ground = shown.js("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 120) == dark
    weak = shown.js(
        """
        const linear = value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
        const channel = value => linear(value / 255);
        const luminance = ([r, g, b]) =>
          0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
        const numbers = color => color.match(/[\\d.]+/g).map(Number);
        const behind = element => {
          const color = numbers(getComputedStyle(element).backgroundColor);
          return color.length === 3 || color[3] === 1 ? color : behind(element.parentElement);
        };
        const weak = [];
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        for (let node; (node = walker.nextNode());) {
          const element = node.parentElement;
          const visible = element.getClientRects().length && !element.closest('title');
          if (!node.data.trim() || !visible) continue;
          const style = getComputedStyle(element);
          const color = element.closest('svg') ? style.fill : style.color;
          const both = [luminance(numbers(color)), luminance(behind(element))];
          const contrast = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
          if (contrast < 4.5) weak.push([node.data.trim().slice(0, 30), color, contrast]);
        }
        return weak;
        """
    )
    assert weak == []


@pytest.mark.parametrize("width", [360, 600, 820, 1280])
def test_no_screen_needs_horizontal_scrolling(shown: _Page, width: int) -> None:
    shown.screen(width, 800)
    for opened in (False, True):
        if opened:
            shown.js(
                "document.querySelectorAll('tr.details').forEach(row => row.classList.add('open'))"
            )
            shown.js("document.querySelectorAll('details').forEach(element => element.open = true)")
        assert shown.js("return document.documentElement.scrollWidth") <= width
        beyond = shown.js(
            "return [...document.querySelectorAll('body *')]"
            ".filter(element => element.getBoundingClientRect().right > innerWidth + 1)"
            ".filter(element => !element.closest('.scroll table'))"
            ".map(element => element.outerHTML.slice(0, 120))"
        )
        assert beyond == []


def test_a_phone_can_sort_and_open_too(shown: _Page) -> None:
    shown.screen(360, 740)
    shown.heading("method").click()
    assert shown.rows()[0] == "alpha"
    shown.of("alpha", ".opener").click()
    assert shown.of("alpha", "tr.details").is_displayed()
    assert (
        shown.js("return document.querySelector('section.table table').getAttribute('role')")
        == "table"
    )


def test_everything_can_be_read_without_a_script(shown: _Page) -> None:
    shown.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        shown.load()
        assert shown.of("alpha", "tr.details").is_displayed()
        assert "reran the released weights" in shown.of("alpha", "tr.details").text
        assert not shown.find(".filter").is_displayed()
    finally:
        shown.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_only_the_pages_own_script_may_run(shown: _Page, browser: Any) -> None:
    shown.js(
        "const element = document.createElement('script');"
        "element.textContent = 'window.pwned = 1';"
        "document.body.append(element)"
    )
    assert shown.js("return window.pwned === undefined")
    assert any("Content Security Policy" in line["message"] for line in browser.get_log("browser"))
