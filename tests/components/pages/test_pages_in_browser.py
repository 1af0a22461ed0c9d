"""The pages of a batch and of two models as people see them: in Chromium, from disk, with hostile text everywhere."""

import io
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from components.pages.batch import Batch, thumbnail_path, write_batch_page
from components.pages.comparison import ScoreRow, write_comparison_page
from components.pages.every_image import MAX_ROWS, Captioned, rows_of
from tests.browser import in_browser

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>\u2028'\"&amp;{{ 7*7 }}"
Open = Callable[..., Page]


def jpeg(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (30, 40, 3)).astype(np.uint8)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens a page from disk; what the browser complains of fails the test."""
    complaints: list[str] = []
    contexts = []

    def go(path: Path, width: int = 1280, scheme: Any = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri(), wait_until="load")
        return page

    yield go
    for context in contexts:
        context.close()
    assert [told for told in complaints if "ERR_FILE_NOT_FOUND" not in told] == []


def batch(key: str, day: int, captions: dict[str, str], bad: dict[str, str], model: str) -> Batch:
    """Captions and reasons by address; the model was surest of the last caption."""
    rows: list[tuple[object, ...]] = [
        (f"{key}{number:062}", uri, text, -1.0 - day if number == len(captions) - 1 else -9.0, "ok", "")
        for number, (uri, text) in enumerate(captions.items())
    ]
    rows += [("0" * 64, uri, "", np.nan, "quarantined", reason) for uri, reason in bad.items()]
    table = pd.DataFrame(rows, columns=["image_id", "uri", "caption", "logprob", "status", "error"])
    times = pd.Series([datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)] * len(table))
    table["scored_at"] = times.astype("datetime64[us, UTC]")
    return Batch(key, model, table.assign(words=[len(text.split()) for text in table["caption"]]))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set's page: 1,300 captions in two batches, a file without one, hostile texts."""
    folder = tmp_path_factory.mktemp("with a space & ünicode")
    many = {f"/photos/{number}.jpg": f"a kite number{number}" for number in range(1298)}
    batches = [
        batch("aa", 0, many, {}, "captioner version 1"),
        batch("bb", 1, {HOSTILE: HOSTILE, "/photos/dog.jpg": "two dogs run"}, {HOSTILE + "2": HOSTILE}, HOSTILE),
    ]
    thumbnails = folder / "_page" / "thumbnails"
    for digest in (f"bb{0:062}", f"bb{1:062}", f"aa{5:062}"):
        thumbnail_path(thumbnails, digest).parent.mkdir(parents=True, exist_ok=True)
        thumbnail_path(thumbnails, digest).write_bytes(jpeg(5))
    page = write_batch_page(batches, folder / "_page.html", folder / "_page", thumbnails)
    write_batch_page(batches, folder / "single.html", None, thumbnails)
    return page


def first(page: Page) -> str:
    return page.locator("article h3").first.inner_text()


@in_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_batch_is_searched_and_sorted(open_page: Open, results: Path, width: int, scheme: str) -> None:
    page = open_page(results, width, scheme)
    expect(page.locator("#count")).to_have_text("1,300 pictures")
    count = page.locator("#count")
    assert count.inner_text() == "1,300 pictures"
    assert "window.hacked" in first(page)
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("/")
    page.keyboard.type("dog")
    assert (count.inner_text(), first(page)) == ("1 pictures", "two dogs run")
    image = page.locator("article img").first
    assert image.evaluate("async (image) => { await image.decode(); return image.naturalWidth; }") == 40
    page.keyboard.press("Escape")
    expect(count).to_have_text("1,300 pictures")
    page.select_option("select[name=order]", "sure")
    assert first(page) == "a kite number1297"
    page.select_option("select[name=order]", "oldest")
    assert first(page) == "a kite number0"
    page.select_option("select[name=batch]", "0")
    assert count.inner_text() == "2 pictures"


@in_browser
def test_more_pictures_come_as_one_scrolls(open_page: Open, results: Path) -> None:
    page = open_page(results)
    before = page.locator("article").count()
    assert before < 1300
    page.locator("#more").scroll_into_view_if_needed()
    expect(page.locator("article").nth(before)).to_be_attached()


@in_browser
def test_quarantined_files_and_batches_are_listed(open_page: Open, results: Path) -> None:
    page = open_page(results)
    expect(page.locator("#count")).to_have_text("1,300 pictures")
    page.locator("#quarantine summary").click()
    (item,) = page.locator("#reasons li").all_inner_texts()
    assert item.count("window.hacked") == 4
    page.locator("#batches summary").click()
    cells = page.locator("tbody tr").last.locator("td").all_inner_texts()
    assert cells[:4] == ["2026-01-01 00:00", "captioner version 1", "1,298", "0"]
    assert page.locator("rect").count() == 4


@in_browser
def test_a_picture_without_a_thumbnail_says_so(open_page: Open, results: Path) -> None:
    page = open_page(results)
    expect(page.locator("#count")).to_have_text("1,300 pictures")
    page.locator("input[name=word]").fill("number7")
    expect(page.locator("article .gone").first).to_contain_text("no thumbnail")


@in_browser
def test_a_single_file_needs_no_other(open_page: Open, results: Path, tmp_path: Path) -> None:
    alone = shutil.copy(results.with_name("single.html"), tmp_path / "alone.html")
    page = open_page(Path(alone))
    assert page.locator("#count").inner_text() == "499 pictures"
    assert page.locator("article img").first.evaluate("async (i) => { await i.decode(); return i.naturalWidth; }") == 40
    assert "801 earlier ones" in page.locator("header").inner_text()


def test_the_page_stays_small_and_its_rows_are_in_files(results: Path) -> None:
    assert results.stat().st_size < 60_000
    assert [path.name for path in sorted((results.parent / "_page" / "rows").iterdir())] == ["00000.js", "00001.js"]


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ids = [7, 3, 5]
    pictures = pd.DataFrame({"image_id": [3, 5, 7], "name": ["3.jpg", HOSTILE, "7.jpg"]})
    pictures["thumbnail"] = [jpeg(3), b"", jpeg(7)]
    pictures["references"] = [["A kite."], [HOSTILE], ["A dog.", "A hound."]]
    mine = pd.DataFrame({"image_id": ids, "caption": ["a dog", "a kite", HOSTILE], "cider": [1.0, 0.5, 0.2]})
    theirs = pd.DataFrame({"image_id": ids, "caption": ["a cat", "a red kite", "a boat"], "cider": [0.9, 1.5, 0.15]})
    scores = [
        ScoreRow("CIDEr", 0.567, 0.833, -0.4, -0.1, 0.01, "worse"),
        ScoreRow(HOSTILE, 0.1, 0.1, -0.1, 0.1, 1.0, "tie"),
    ]
    page = tmp_path_factory.mktemp("comparison") / "page.html"
    sides = Captioned("captioner version 3", mine), Captioned(HOSTILE, theirs)
    return write_comparison_page(*sides, pictures, scores, {HOSTILE: HOSTILE}, page)


@in_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light")])
def test_two_models_are_compared_picture_by_picture(
    open_page: Open, side_by_side: Path, width: int, scheme: str
) -> None:
    page = open_page(side_by_side, width, scheme)
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    card = page.locator("article").first
    assert card.locator("h3").all_inner_texts() == ["a dog", "a cat"]  # most in favour of the first
    assert card.locator(".numbers").all_inner_texts() == ["CIDEr 100", "CIDEr 90"]
    assert card.locator(".references li").all_inner_texts() == ["People wrote:", "A dog.", "A hound."]
    page.select_option("select[name=order]", "worst")
    assert page.locator("article").first.locator("h3").all_inner_texts() == ["a kite", "a red kite"]
    page.locator("input[name=word]").fill("hound")
    assert page.locator("#count").inner_text() == "1 pictures"
    row = page.locator("tbody tr").first.locator("td").all_inner_texts()
    assert row[:6] == ["CIDEr", "56.7", "83.3", "-26.6", "-40.0 to -10.0", "0.0100"]


def test_of_very_many_images_those_in_the_middle_are_left_out() -> None:
    ids = list(range(MAX_ROWS + 10))
    pictures = pd.DataFrame({"image_id": ids, "name": "", "references": [[]] * len(ids), "thumbnail": b""})
    predictions = pd.DataFrame({"image_id": ids, "caption": "a", "cider": np.arange(len(ids)) / 100})
    rows = rows_of(pictures, [Captioned("one", predictions)])
    assert len(rows) == MAX_ROWS
    assert (rows[0][5], rows[-1][5]) == (MAX_ROWS + 9, 0)
