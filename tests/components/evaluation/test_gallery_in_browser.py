"""The gallery as people see it: in Chromium, from a file."""

import io
import re
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from components.decoder.caption import Caption
from components.evaluation import gallery
from components.evaluation.gallery import Card, Plot, Section, Tile, render_gallery
from tests.browser import in_browser

pytestmark = in_browser


HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
LONG = "photographically" * 6
BEST = ["a brown dog runs", "two dogs and a cat"]
WORST = ["a red kite", "a boat"]
OWN = ["a dog of mine", HOSTILE]

Open = Callable[..., Page]
Scheme = Literal["light", "dark"]


def picture(width: int, height: int, encoding: str = "JPEG") -> bytes:
    grains, content = np.random.default_rng(width).integers(0, 256, (6, 8, 3)).astype(np.uint8), io.BytesIO()
    Image.fromarray(grains).resize((width, height)).save(content, encoding)
    return content.getvalue()


def card(text: str, cider: float | None, name: str = "kite.jpg #1", reference: str = "") -> Card:
    caption = Caption(text, (-0.5,) * (len(text.split(" ")) + 1))
    references = (reference or f"Someone wrote of {text}.", "Another one.") if cider is not None else ()
    photo = picture(320, 640) if cider is None else picture(640, 300)
    return Card(name, photo, caption, (caption, caption), references, cider)


def gallery_page() -> gallery.Page:
    sections = [
        Section("best", "The best", "High.", [card(BEST[0], 2.5, reference="A hound."), card(BEST[1], 1.5)]),
        Section("worst", "The worst", "Low.", [card(WORST[0], 0.1), card(WORST[1], 0.05, LONG + ".jpg #7", LONG)]),
        Section("random", "At random", "Any.", [card(BEST[0], 2.5, reference="A hound."), card(LONG, 0.5)]),
        Section("own", "Your own pictures", "Nobody's.", [card(OWN[0], None, "mine.jpg"), card(OWN[1], None, HOSTILE)]),
    ]
    labels = ("CIDEr", "BLEU-4", "METEOR", "ROUGE-L", "SPICE", "BLEU-1", "BLEU-2", "BLEU-3")
    scores = [Tile(label, "103.4", "101.2 to 105.7") for label in labels]
    measures = [Tile("CIDEr with images shuffled", "4.1"), Tile("Words used", "1,234", "of 9,000")] * 3
    plots = [Plot(name, f"Of {name}.", picture(960, 640, "PNG")) for name in ("loss", "cider", "scores")]
    samples = [(0.25, "a dog"), (2.0, "a dog with a cat on the sea and a kite near the boat under it")]
    return gallery.Page("Captions of val", scores, measures, sections, plots, samples, {"Model": LONG, "Data": "toy"})


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("gallery") / "gallery.html"
    path.write_text(render_gallery(gallery_page()), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Open]:
    """Opens the gallery; `page.complaints` of the browser and what it asked for are checked when the test is over."""
    complaints: list[str] = []
    asked: list[str] = []
    contexts = []

    def go(width: int = 1280, height: int = 800, scheme: Scheme = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address, wait_until="load")
        return page

    yield go
    for context in contexts:
        context.close()
    assert complaints == []
    assert {url for url in asked if not url.startswith("data:")} == {address}


def field(page: Page, name: str) -> Locator:
    return page.locator(f"input[name={name}]")


def shown(page: Page) -> list[str]:
    """The captions of the cards that are not filtered away."""
    return list(page.locator("article:visible h3").all_inner_texts())


ALL = [*BEST, *WORST, BEST[0], LONG, *OWN]


def test_the_page_opens_whole_with_its_pictures(open_page: Open) -> None:
    page = open_page()
    assert shown(page) == ALL
    assert page.locator("#count").inner_text() == "8 pictures"
    for image in page.locator("img").all():
        image.scroll_into_view_if_needed()  # which is when it loads
        assert image.evaluate("async (image) => { await image.decode(); return image.naturalWidth; }") > 100


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("dog", [*BEST, BEST[0], OWN[0]]),
        ("DOG", [*BEST, BEST[0], OWN[0]]),
        ("dogs", [BEST[1]]),
        ("og", []),
        ("hound", [BEST[0], BEST[0]]),
        ("some kit", [WORST[0]]),
        ("cat, two", [BEST[1]]),
        (" ", ALL),
        ("<script>", [OWN[1]]),
    ],
)
def test_a_word_filters_captions_and_references_by_their_words_starts(
    open_page: Open, word: str, found: list[str]
) -> None:
    page = open_page()
    field(page, "word").fill(word)
    assert shown(page) == found
    of = f"{len(found)} of 8 pictures" if found != ALL else "8 pictures"
    assert page.locator("#count").inner_text() == of


@pytest.mark.parametrize(
    ("word", "found"),
    [("走", [0]), ("芝生", [0]), ("कुत्ता", [1]), ("कुत", [1]), ("त्ता", []), ("كلب", [2]), ("Hình", [3]), ("a", [3])],
)
def test_words_of_every_script_are_found_and_read_in_their_direction(
    browser: Browser, tmp_path: Path, word: str, found: list[int]
) -> None:
    texts = ["犬が芝生の上を走る", "एक कुत्ता दौड़ रहा है", "كلب يركض على العشب", "A hi\u0300nh of a dog"]
    cards = [card(text, None) for text in texts]
    (tmp_path / "gallery.html").write_text(
        render_gallery(gallery.Page("Scripts", [], [], [Section("own", "Yours", "", cards)], [], [], {})),
        encoding="utf-8",
    )
    page = browser.new_page()
    page.goto((tmp_path / "gallery.html").as_uri())
    directions = page.locator("h3").evaluate_all("all => all.map(each => getComputedStyle(each).direction)")
    assert directions == ["ltr", "ltr", "rtl", "ltr"]
    field(page, "word").fill(word)
    assert shown(page) == [texts[number] for number in found]
    page.close()


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        ("150", "", [BEST[0], BEST[1], BEST[0]]),
        ("", "10", [WORST[0], WORST[1]]),
        ("10", "150", [BEST[1], WORST[0], LONG]),
        ("0", "", [*BEST, *WORST, BEST[0], LONG]),
        ("200", "100", []),
    ],
)
def test_scores_filter_and_what_has_none_is_not_shown_then(
    open_page: Open, low: str, high: str, found: list[str]
) -> None:
    page = open_page()
    field(page, "low").fill(low)
    field(page, "high").fill(high)
    assert shown(page) == found
    assert page.locator("#count").inner_text() == f"{len(found)} of 8 pictures"


def test_word_and_score_filter_together_and_sections_without_a_match_say_so(open_page: Open) -> None:
    page = open_page()
    assert page.locator(".none:visible").count() == 0
    field(page, "word").fill("dog")
    assert page.locator("section:has(.none:visible) h2").all_inner_texts() == ["The worst"]
    field(page, "low").fill("200")
    assert shown(page) == [BEST[0], BEST[0]]
    assert page.locator("section:has(.none:visible) h2").all_inner_texts() == ["The worst", "Your own pictures"]


def test_show_all_and_escape_show_all(open_page: Open) -> None:
    page = open_page()
    for reset in (
        lambda: page.get_by_role("button", name="Show all").click(),
        lambda: field(page, "high").press("Escape"),
        lambda: field(page, "word").press("Escape"),
    ):
        field(page, "word").fill("dog")
        field(page, "low").fill("100")
        assert len(shown(page)) == 3
        reset()
        expect(page.locator("#count")).to_have_text("8 pictures")
        assert shown(page) == ALL
        assert [field(page, name).input_value() for name in ("word", "low", "high")] == ["", "", ""]


def test_a_slash_goes_to_the_word_field_and_in_a_field_it_is_a_slash(open_page: Open) -> None:
    page = open_page()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "word"
    assert field(page, "word").input_value() == ""
    page.keyboard.type("a/b")
    assert field(page, "word").input_value() == "a/b"


def test_hostile_text_is_shown_as_it_is_and_does_nothing(open_page: Open) -> None:
    page = open_page()
    assert page.locator("#own h3").last.inner_text() == HOSTILE
    assert page.locator("#own .name").last.inner_text() == HOSTILE
    assert page.locator("#own img").last.get_attribute("alt") == HOSTILE
    page.locator("#own details").last.locator("summary").click()
    assert page.evaluate("window.hacked") is None
    assert page.locator("script").count() == 2  # its rows, and what shows them
    assert page.locator("img:not([src^='data:'])").count() == 0


def test_what_the_policy_does_not_know_does_not_run(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.hacked = 1";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<img src='data:,' onerror='window.hacked = 1'>");
    }""")
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None
    page.close()


STICKING_OUT = """(selector) => [...document.querySelectorAll(selector)].flatMap((box) => {
    const outer = box.getBoundingClientRect(), found = [];
    const texts = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
    for (let text = texts.nextNode(); text; text = texts.nextNode()) {
        if (!text.data.trim() || !text.parentElement.checkVisibility()) continue;
        const range = document.createRange();
        range.selectNodeContents(text);
        for (const inner of range.getClientRects())
            if (inner.width > 0 && (inner.left < outer.left - 1 || inner.right > outer.right + 1
                || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1))
                found.push(text.data.trim());
    }
    return found;
})"""
BOXES = ".tiles > div, .measures > div, article, figure, .samples, .facts > div"


@pytest.mark.parametrize(("width", "height"), [(320, 640), (390, 844), (768, 1024), (1280, 800), (2200, 1200)])
def test_everything_has_its_place_on_every_screen(open_page: Open, width: int, height: int) -> None:
    page = open_page(width, height)
    for summary in page.locator("summary").all()[::2]:
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate(STICKING_OUT, BOXES + ", form, header, nav") == []
    boxes = [box for element in page.locator(BOXES).all() if (box := element.bounding_box())]
    assert len(boxes) == 8 + 6 + 8 + 3 + 1 + 2
    for one, other in combinations(boxes, 2):
        apart = (
            one["x"] + one["width"] <= other["x"] + 0.5
            or other["x"] + other["width"] <= one["x"] + 0.5
            or one["y"] + one["height"] <= other["y"] + 0.5
            or other["y"] + other["height"] <= one["y"] + 0.5
        )
        assert apart, f"{one} and {other} overlap"


@pytest.mark.parametrize("width", [390, 1280])
def test_the_filter_stays_in_sight_where_there_is_room(open_page: Open, width: int) -> None:
    page = open_page(width)
    page.locator("#own article").last.scroll_into_view_if_needed()
    box = page.locator("#filter").bounding_box()
    assert box is not None
    assert (-1 <= box["y"] < 10) == (width == 1280)


def test_every_control_is_reached_by_tab_and_seen_when_it_is(open_page: Open) -> None:
    page = open_page()
    controls = page.locator("a[href], input, button, summary").count()
    reached = []
    for _ in range(controls):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("""() => {
                const focused = document.activeElement, box = focused.getBoundingClientRect();
                const all = [...document.querySelectorAll("a[href], input, button, summary")];
                const outlined = parseFloat(getComputedStyle(focused).outlineWidth) >= 2;
                return [all.indexOf(focused), outlined, box.right > 0 && box.bottom > 0 && box.top < innerHeight];
            }""")
        )
    assert reached == [[number, True, True] for number in range(controls)]


def test_the_skip_link_leads_past_the_scores_to_the_filter(open_page: Open) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "pictures"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "word"


def test_the_ranking_opens_with_enter(open_page: Open) -> None:
    page = open_page()
    ranking = page.locator("article").first.locator(".ranked")
    assert not ranking.is_visible()
    page.locator("article").first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert ranking.is_visible()
    assert ranking.locator("li span").all_inner_texts() == [BEST[0], BEST[0]]


COLOURS = """(element) => {
    const backgrounds = [], opacities = [];
    for (let above = element; above; above = above.parentElement) {
        const style = getComputedStyle(above);
        backgrounds.push(style.backgroundColor);
        opacities.push(Number(style.opacity));
    }
    return [getComputedStyle(element).color, backgrounds, opacities];
}"""


def numbers(colour: str) -> tuple[float, ...]:
    found = [float(number) for number in re.findall(r"[\d.]+", colour)]
    return (*found, 1.0) if len(found) == 3 else tuple(found)


def luminance(colour: tuple[float, ...]) -> float:
    """That of WCAG 2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in colour[:3])]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(element: Locator) -> float:
    ink, backgrounds, opacities = element.evaluate(COLOURS)
    ground = next(numbers(background) for background in backgrounds if numbers(background)[3] == 1)
    share = float(np.prod(opacities)) * numbers(ink)[3]
    seen = tuple(share * i + (1 - share) * g for i, g in zip(numbers(ink)[:3], ground[:3], strict=True))
    light, dark = sorted((luminance(seen), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(open_page: Open, scheme: Scheme) -> None:
    page = open_page(scheme=scheme)
    texts = {
        name: contrast(page.locator(name).first)
        for name in (
            *("h1", ".lead", ".tiles dt", ".tiles dd", ".tiles .note", ".tiles div:nth-child(2) .note"),
            *(".measures dt", ".measures dd span", "nav a", "legend", "input", "button", "output", "h2", "h3"),
            *(".best b", ".worst b", ".random b", ".numbers .name", ".words li", ".words small", ".words .end"),
            *(".references li", "summary", "figcaption", ".samples dd", ".samples dt", ".facts dt", ".facts dd"),
        )
    }
    assert {name: ratio for name, ratio in texts.items() if ratio < 4.5} == {}


def test_light_and_dark_differ(open_page: Open) -> None:
    def colours(scheme: Scheme) -> dict[str, Any]:
        style = "(style) => [style.color, style.backgroundColor].map(String)"
        body = open_page(scheme=scheme).locator("body")
        ink, ground = body.evaluate(f"(body) => ({style})(getComputedStyle(body))")
        return {"ink": luminance(numbers(ink)), "ground": luminance(numbers(ground))}

    light, dark = colours("light"), colours("dark")
    assert light["ink"] < 0.1 < 0.8 < light["ground"]
    assert dark["ground"] < 0.1 < 0.8 < dark["ink"]


def test_without_a_script_all_is_there_but_the_filter(browser: Browser, address: str) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(address)
    assert shown(page) == ALL
    assert not page.locator("#filter").is_visible()
    assert page.locator(".none:visible").count() == 0
    page.close()
