import base64
import hashlib
import io
import math
import re
from collections.abc import Sequence
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from components.decoder.caption import Caption
from components.errors import BadImageError
from components.evaluation.gallery import Card, Page, Plot, Section, Tile, render_gallery

HALF = math.log(0.5)


class Parsed(HTMLParser):
    """The tags with their attributes, and the text outside style sheets and scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw = {"style": "", "script": ""}
        self.pieces: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            self.raw[self.cdata_elem] += data
        else:
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def photograph(size: tuple[int, int] = (64, 48), mode: str = "RGB", encoding: str = "JPEG") -> bytes:
    content = io.BytesIO()
    Image.new(mode, size).save(content, encoding)
    return content.getvalue()


def turned(size: tuple[int, int], orientation: int) -> bytes:
    """A photograph whose upper half is white, as a camera held otherwise writes it."""
    image, content = Image.new("RGB", size), io.BytesIO()
    image.paste("white", (0, 0, size[0], size[1] // 2))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(content, "JPEG", exif=exif)
    return content.getvalue()


def noise(side: int, strength: float, seed: int) -> bytes:
    """A photograph that hardly compresses; of less strength it compresses more."""
    grains = np.random.default_rng(seed).normal(128, strength, (side, side, 3)).clip(0, 255).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(grains).save(content, "JPEG", quality=95)
    return content.getvalue()


def caption(text: str = "a red kite", logprob: float = HALF) -> Caption:
    return Caption(text, (logprob,) * (len(text.split()) + 1))


def card(text: str = "a red kite", name: str = "kite.jpg #42", photo: bytes = b"", cider: float | None = 1.234) -> Card:
    ranked = (caption(text), caption("kites", math.log(0.25)))
    return Card(name, photo or photograph(), caption(text), ranked, ("A kite.", "Kites"), cider)


def page(*sections: Section, title: str = "Captions", plots: Sequence[Plot] = ()) -> Page:
    samples = [(0.5, "a kite"), (2.0, "kite sky of")] if plots else []
    scores = [Tile("CIDEr", "41.5", "40.1 to 42.9"), Tile("BLEU-4", "19.0")]
    measures = [Tile("Words used", "1,234", "of 9,000"), Tile("Length", "9.1", "words")]
    return Page(title, scores, measures, sections, plots, samples, {"Model": "toy 3", "Tokenizer": "ptb"})


def section(kind: str, *cards: Card) -> Section:
    return Section(kind, f"Heading {kind}", f"Lead {kind}.", cards)


def thumbnail(attributes: dict[str, str | None]) -> Image.Image:
    prefix, _, content = (attributes["src"] or "").partition(",")
    assert prefix == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_the_page_shows_scores_with_their_intervals_and_measures_with_their_notes() -> None:
    parsed = Parsed(render_gallery(page(section("best", card()), title="Captions of val")))
    assert "Captions of val toy 3 CIDEr 41.5 40.1 to 42.9 BLEU-4 19.0 Scores are multiplied by 100" in parsed.text
    assert "Words used 1,234 of 9,000 Length 9.1 words" in parsed.text
    assert parsed.text.endswith("Where this comes from Model toy 3 Tokenizer ptb")


def test_a_card_shows_the_caption_how_sure_each_word_is_the_ranking_and_the_references() -> None:
    sure = Caption("a red kite", (math.log(0.999), math.log(0.5), math.log(0.256), math.log(0.004)))
    one = Card("kite.jpg #42", photograph(), sure, (caption(), caption("kites", -7)), ("A kite.", "Kites"), 1.234)
    parsed = Parsed(render_gallery(page(section("best", one))))
    assert (
        "a red kite CIDEr 123 15 % per word kite.jpg #42 a 100 red 50 kite 26 end 0 People wrote: A kite. Kites "
        "The 2 best of a beam a red kite 50 % per word kites 0 % per word"
    ) in parsed.text
    ends = [attributes for attributes in parsed.all("li") if attributes.get("class") == "end"]
    assert [attributes["style"] for attributes in ends] == ["--p: 0.004"]
    assert parsed.all("img")[0]["alt"] == "kite.jpg #42"
    assert parsed.all("article")[0] == {"data-text": "a red kite a kite. kites", "data-cider": "123"}


def test_sections_come_in_order_and_are_linked_and_empty_ones_are_left_out() -> None:
    sections = [section("best", card("one")), section("random"), section("worst", card("two"), card("three"))]
    parsed = Parsed(render_gallery(page(*sections)))
    places = [parsed.text.index(text) for text in ("Lead best", "one CIDEr", "Lead worst", "two CIDEr", "three CIDEr")]
    assert places == sorted(places)
    assert "Heading random" not in parsed.text
    targets = [(attributes["href"] or "").removeprefix("#") for attributes in parsed.all("a")]
    assert targets == ["pictures", "best", "worst", "identity"]
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert set(targets) <= set(ids)
    assert len(ids) == len(set(ids))


def test_plots_and_samples_are_shown_and_left_out_where_there_are_none() -> None:
    shown = Parsed(render_gallery(page(section("best", card()), plots=[Plot("loss", "After each epoch.", b"png")])))
    assert shown.all("img")[-1] == {"src": "data:image/png;base64,cG5n", "alt": "Plot: loss"}
    assert "After each epoch. The same photograph's caption, drawn at each temperature: 0.5 a kite 2.0" in shown.text
    assert "#plots" in [attributes["href"] for attributes in shown.all("a")]
    bare = Parsed(render_gallery(page(section("best", card()))))
    assert not {"Plots", "temperature"} & set(bare.text.split())
    assert not bare.all("figure")


def test_nothing_is_shown_where_there_is_nothing() -> None:
    bare = Card("own.jpg", photograph(), caption(""))
    parsed = Parsed(render_gallery(page(section("own", bare))))
    assert "Lead own. (no words) 50 % per word own.jpg end 50 No picture" in parsed.text
    assert parsed.all("article") == [{"data-text": ""}]
    assert not parsed.all("details")
    empty = Parsed(render_gallery(Page("Nothing", [], [], [], [], [], {})))
    assert not empty.all("article") + empty.all("img")


HOSTILE = st.text(alphabet="<>&\"'/=abc ;:{}%-!#()\n\u2028é", max_size=30)


@given(HOSTILE.map(lambda text: f"<script>{text}</script>{text}\"'><img src=x onerror=hack()>"))
@settings(max_examples=30)
def test_text_is_never_markup(hostile: str) -> None:
    def written(text: str) -> Parsed:
        one = Card(text, PHOTO, Caption(text, (HALF,) * (text.count(" ") + 2)), (Caption(text, (HALF,)),), (text,), 1.0)
        sections, plots = [Section("best", text, text, [one])], [Plot(text, text, b"png")]
        tiles = [Tile(text, text, text)]
        return Parsed(render_gallery(Page(text, tiles, tiles, sections, plots, [(1.0, text)], {text: text})))

    found, spaces = written(hostile), hostile.count(" ")
    harmless = written("a" + " a" * spaces)
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in harmless.tags]
    assert [set(attributes) for _, attributes in found.tags] == [set(attributes) for _, attributes in harmless.tags]
    assert found.raw == harmless.raw, "none of it lands in a script or a style sheet"
    executable = {"style", "href", "src", "id", "class", "http-equiv", "content"}
    for (_, mine), (_, theirs) in zip(found.tags, harmless.tags, strict=True):
        assert {name: mine[name] for name in mine if name in executable} == {
            name: theirs[name] for name in theirs if name in executable
        }
    assert found.all("img")[0]["alt"] == hostile
    # title, heading, name of the section, its lead; tiles twice; card: caption, name, reference, ranked; plot; sample;
    # identity twice
    assert "".join(found.pieces).count(hostile) >= 17


PHOTO = photograph((8, 8))


def test_the_page_loads_nothing_and_lets_only_its_own_script_run() -> None:
    html = render_gallery(page(section("best", card()), plots=[Plot("loss", "Loss.", b"png")]))
    parsed = Parsed(html)
    assert "http" not in html.replace("http-equiv", "")
    assert all((image["src"] or "").startswith("data:image/") for image in parsed.all("img"))
    assert [link["href"] for link in parsed.all("link")] == ["data:,"]
    assert "@import" not in parsed.raw["style"]
    assert "url(" not in parsed.raw["style"]
    assert parsed.all("script") == [{"type": "application/json", "id": "state"}, {}]
    digest = base64.b64encode(
        hashlib.sha256(html.rpartition("<script>")[2].partition("</script>")[0].encode()).digest()
    ).decode()
    (policy,) = (meta["content"] for meta in parsed.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "script-src": f"'sha256-{digest}'",
    }
    assert not re.search(r"\son\w+=", html.split("<script>")[0]), "no handlers, which the policy would stop"


@pytest.mark.parametrize(
    ("photo", "size"),
    [
        (photograph((1280, 640)), (360, 180)),
        (photograph((20, 10), "CMYK"), (20, 10)),
        (photograph((2000, 1000), "CMYK"), (360, 180)),
        (photograph((500, 1000), "RGBA", "PNG"), (180, 360)),
        (photograph((40, 30), "P", "GIF"), (40, 30)),
        (photograph((30, 30), "I;16", "PNG"), (30, 30)),
        (photograph((1, 1)), (1, 1)),
        (photograph((3000, 4)), (360, 1)),
    ],
)
def test_photographs_become_small_jpegs(photo: bytes, size: tuple[int, int]) -> None:
    parsed = Parsed(render_gallery(page(section("best", card(photo=photo)))))
    image = thumbnail(parsed.all("img")[0])
    assert (image.size, image.mode) == (size, "RGB")


@pytest.mark.parametrize(
    ("orientation", "size", "bright"), [(1, (360, 180), "top"), (3, (360, 180), "bottom"), (6, (180, 360), "right")]
)
def test_photographs_are_shown_upright(orientation: int, size: tuple[int, int], bright: str) -> None:
    parsed = Parsed(render_gallery(page(section("best", card(photo=turned((1280, 640), orientation))))))
    image = thumbnail(parsed.all("img")[0]).convert("L")
    width, height = image.size
    middle = {
        "top": (width // 2, 10),
        "bottom": (width // 2, height - 10),
        "left": (10, height // 2),
        "right": (width - 10, height // 2),
    }
    assert image.size == size
    assert max(middle, key=lambda side: image.getpixel(middle[side])) == bright
    assert not image.getexif().get(0x0112), "or it would be turned once more"


@pytest.mark.parametrize("photo", [b"not a photograph", photograph((640, 480))[:400], b""])
def test_a_damaged_photograph_is_named(photo: bytes) -> None:
    damaged = Card("kite.jpg #42", photo, caption())
    with pytest.raises(BadImageError, match=r"photograph kite\.jpg #42 cannot be decoded"):
        render_gallery(page(section("best", card(), damaged)))


@pytest.mark.parametrize("strength", [25, 500])
def test_the_page_of_240_photographs_of_noise_can_be_mailed(strength: float) -> None:
    photos = [noise(400, strength, seed) for seed in range(3)]
    words = " ".join(["photograph"] * 12)
    cards = [
        Card(
            f"{number:012}.jpg #{number}", photos[number % 3], caption(words), (caption(words),) * 5, (words,) * 5, 1.0
        )
        for number in range(240)
    ]
    plots = [Plot(name, "A plot.", np.random.default_rng(0).bytes(60_000)) for name in "abcdef"]
    html = render_gallery(page(*(section(f"s{part}", *cards[part * 60 :][:60]) for part in range(4)), plots=plots))
    assert len(html.encode()) < 8_000_000
    parsed = Parsed(html)
    assert len(parsed.all("article")) == 240
    assert thumbnail(parsed.all("img")[0]).width >= 96


def test_few_photographs_are_shown_large() -> None:
    parsed = Parsed(render_gallery(page(section("best", *(card(photo=noise(400, 500, seed)) for seed in range(3))))))
    assert [thumbnail(image).size for image in parsed.all("img")] == 3 * [(360, 360)]
