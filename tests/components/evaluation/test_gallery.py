import base64
import io
import math
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from components.errors import BadImageError
from components.evaluation.gallery import GalleryItem, render_gallery


class Page(HTMLParser):
    """The tags with their attributes, and the text outside style sheets."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] != "style":
            self.text += data + " "

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def photograph(size: tuple[int, int], mode: str = "RGB", encoding: str = "JPEG", orientation: int = 1) -> bytes:
    image, content = Image.new(mode, size), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(content, encoding, exif=exif)
    return content.getvalue()


def item(caption: str = "a red kite", photo: bytes = b"", image_id: int = 42) -> GalleryItem:
    return GalleryItem(
        image_id, photo or photograph((640, 480)), caption, 4 * math.log(0.5), 1.234, ("A kite.", "Kites")
    )


def thumbnail(attributes: dict[str, str | None]) -> Image.Image:
    prefix, _, content = (attributes["src"] or "").partition(",")
    assert prefix == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_page_shows_captions_scores_and_facts() -> None:
    scores = {"bleu4": 0.19, "cider": 0.4151, "novelty": 0.5}
    page = Page(render_gallery("Dev", [item()], [item("a dog", image_id=7)], scores, {"Tokenizer": "ptb"}, b"png"))
    text = " ".join(page.text.split())
    assert "CIDEr 41.5 BLEU-4 19.0 novelty 50.0" in text
    assert "multiplied by 100" in text
    assert "a red kite CIDEr 123 50 % a word #42 A kite. Kites" in text
    assert text.index("Where the model worked well") < text.index("a red kite")
    assert text.index("a red kite") < text.index("Where it worked poorly") < text.index("a dog")
    assert text.endswith("Tokenizer ptb")
    assert [image["alt"] for image in page.all("img")][:2] == ["a red kite", "a dog"]
    assert page.all("img")[2]["src"] == "data:image/png;base64,cG5n"


def test_nothing_is_shown_where_there_is_nothing() -> None:
    page = Page(render_gallery("Dev", [], [item("")], {"cider": 0.0}, {}, None))
    assert "worked well" not in page.text
    assert "(no words)" in page.text
    assert len(page.all("img")) == 1


@given(st.text(alphabet="<>&\"'/=abc ;{}%-!", max_size=30).map(lambda text: f"<script>{text}</script>" + text))
@settings(max_examples=30, deadline=None)
def test_text_is_never_markup(hostile: str) -> None:
    photo = photograph((8, 8))
    card = GalleryItem(1, photo, hostile, -1.0, 0.0, (hostile,))
    page = Page(render_gallery(hostile, [card], [card], {hostile: 0.1}, {hostile: hostile}, None))
    plain = GalleryItem(1, photo, "a", -1.0, 0.0, ("a",))
    harmless = Page(render_gallery("a", [plain], [plain], {"a": 0.1}, {"a": "a"}, None))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert page.all("img")[0]["alt"] == hostile
    assert page.text.count(hostile) >= 9


def test_page_loads_nothing() -> None:
    html = render_gallery("Dev", [item()], [], {"cider": 0.1}, {}, b"png")
    page = Page(html)
    assert "http" not in html.replace("http-equiv", "")
    assert not page.all("script") + page.all("link") + page.all("iframe")
    assert all((image["src"] or "").startswith("data:image/") for image in page.all("img"))


@pytest.mark.parametrize(
    ("photo", "size"),
    [
        (photograph((1280, 640)), (360, 180)),
        (photograph((1280, 640), orientation=6), (180, 360)),
        (photograph((20, 10), "CMYK"), (20, 10)),
        (photograph((500, 1000), "RGBA", "PNG"), (180, 360)),
        (photograph((30, 30), "I;16", "PNG"), (30, 30)),
    ],
)
def test_photographs_become_small_upright_jpegs(photo: bytes, size: tuple[int, int]) -> None:
    page = Page(render_gallery("Dev", [item(photo=photo)], [], {}, {}, None))
    image = thumbnail(page.all("img")[0])
    assert (image.size, image.mode) == (size, "RGB")


@pytest.mark.parametrize("photo", [b"not a photograph", photograph((640, 480))[:400]])
def test_a_damaged_photograph_is_named(photo: bytes) -> None:
    with pytest.raises(BadImageError, match="image 42 cannot be decoded"):
        render_gallery("Dev", [item(photo=photo)], [], {}, {}, None)
