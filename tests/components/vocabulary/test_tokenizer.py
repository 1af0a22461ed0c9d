import json
import re
import unicodedata
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.vocabulary.spacing import join_words
from components.vocabulary.tokenizer import tokenize

SHARED = Path(__file__).parents[3].parent / "shared" / "data"


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A man's dog, on the T-shirt.", ["a", "man", "s", "dog", "on", "the", "t", "shirt"]),
        ("  Two   dogs\n(big ones) ", ["two", "dogs", "big", "ones"]),
        ("ÉTÉ à Zürich: 42", ["été", "à", "zürich", "42"]),
        ("<start> <END>", ["start", "end"]),
        ("snake_case", ["snake_case"]),
        ("...!", []),
        ("", []),
    ],
)
def test_words_are_what_is_between_the_others(caption: str, words: list[str]) -> None:
    assert tokenize(caption) == words


SCRIPTS = {
    "Hindi": ("एक लड़का लाल कमीज में है।", ["एक", "लड़का", "लाल", "कमीज", "में", "है"]),
    "Hindi, with a joiner": ("क्‍ष है", ["क्‍ष", "है"]),
    "Bengali": ("একটি কুকুর দৌড়াচ্ছে।", ["একটি", "কুকুর", "দৌড়াচ্ছে"]),
    "Tamil": ("ஒரு நாய் ஓடுகிறது.", ["ஒரு", "நாய்", "ஓடுகிறது"]),
    "Telugu": ("ఒక కుక్క పరిగెడుతోంది", ["ఒక", "కుక్క", "పరిగెడుతోంది"]),
    "Arabic, with vowels": ("كَلْبٌ يَجْرِي، سريعًا", ["كَلْبٌ", "يَجْرِي", "سريعًا"]),
    "Persian, with a joiner": ("سگ می‌دود", ["سگ", "می‌دود"]),
    "Hebrew, with points": ("כֶּלֶב רָץ", ["כֶּלֶב", "רָץ"]),
    "Vietnamese": ("Một con chó đang chạy", ["một", "con", "chó", "đang", "chạy"]),
    "Turkish": ("İstanbul'da IŞIK", ["istanbul", "da", "işik"]),
    "German": ("Straße, Äpfel – GROẞ", ["straße", "äpfel", "groß"]),
    "French": ("L’été, une fille s’amuse", ["l", "été", "une", "fille", "s", "amuse"]),
    "Greek": ("Ο ΣΚΥΛΟΣ τρέχει", ["ο", "σκυλος", "τρέχει"]),
    "Russian": ("Ёж и собака", ["ёж", "и", "собака"]),
    "Korean": ("개가 달린다.", ["개가", "달린다"]),
    "Tibetan": ("ཁྱི་ཞིག", ["ཁྱི", "ཞིག"]),
    "Japanese": ("犬が芝生の上を走っている。", ["犬", "が", "芝生", "の", "上", "を", "走", "って", "いる"]),
    "Chinese": ("一只狗在草地上奔跑", ["一只", "狗", "在", "草地", "上", "奔跑"]),
    "Chinese and English": ("一只dog在跑", ["一只", "dog", "在", "跑"]),
    "beyond the first plane": ("𠮷と犬", ["𠮷", "と", "犬"]),
    "Thai": ("สุนัขกำลังวิ่งบนสนามหญ้า", ["สุนัข", "กำลัง", "วิ่ง", "บน", "สนาม", "หญ้า"]),
    "Thai, with numbers": ("ผู้ชาย๒คน 3คน", ["ผู้ชาย", "๒", "คน", "3", "คน"]),
    "Burmese, with a number": ("ကလေး၂ယောက်", ["ကလေး", "၂", "ယောက်"]),
    "Khmer, with a number": ("ក្មេង២នាក់", ["ក្មេង", "២", "នាក់"]),
    "Lao": ("ຫມາແລ່ນຢູ່ໃນຫຍ້າ", ["ຫ", "ມາ", "ແລ່ນ", "ຢູ່ໃນ", "ຫຍ້າ"]),
    "Khmer": ("ឆ្កែរត់លើស្មៅ", ["ឆ្កែ", "រត់", "លើ", "ស្មៅ"]),
    "Burmese": ("ခွေးပြေးနေသည်", ["ခွေးပြေး", "နေသည်"]),
    "emoji": ("👩‍👩‍👧 a family 🐕", ["a", "family"]),
    "keycap": ("1️⃣ dog", ["1", "dog"]),
    "soft hyphen": ("sky\u00adscraper", ["skyscraper"]),
    "no-break space": ("two\u00a0dogs", ["two", "dogs"]),
    "zero-width space": ("two\u200bdogs", ["two", "dogs"]),
    "digits of another script": ("٣ كلاب", ["٣", "كلاب"]),
}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_words_of_every_script_are_whole(script: str, form: str) -> None:
    caption, words = SCRIPTS[script]
    expected = [unicodedata.normalize("NFC", word) for word in words]
    assert tokenize(unicodedata.normalize(form, caption)) == expected  # type: ignore[arg-type]


def test_words_are_joined_as_people_write_them() -> None:
    for script in ("Japanese", "Thai", "Chinese", "Burmese"):
        caption, words = SCRIPTS[script]
        assert join_words(words) == caption.rstrip("。")
    assert join_words(["一只", "dog", "在", "跑"]) == "一只 dog 在跑"
    assert join_words(["a", "man", "s", "dog"]) == "a man s dog"
    assert join_words([]) == ""


@given(st.text())
def test_words_have_no_separators_and_begin_with_no_mark(caption: str) -> None:
    for word in tokenize(caption):
        assert word == unicodedata.normalize("NFC", word)
        assert not re.search(r"\s", word)
        assert word[0].isalnum() or word[0] == "_"


@given(st.text(st.characters(codec="ascii")))
def test_plain_english_is_divided_as_in_the_notebook(caption: str) -> None:
    assert tokenize(caption) == re.findall(r"\w+", caption.lower())


@given(st.text())
def test_one_text_has_one_division_however_it_is_encoded(caption: str) -> None:
    assert tokenize(unicodedata.normalize("NFD", caption)) == tokenize(unicodedata.normalize("NFC", caption))


@given(st.text(), st.text())
def test_a_space_parts_captions(left: str, right: str) -> None:
    assert tokenize(f"{left} {right}") == tokenize(left + "\n") + tokenize(right)


@pytest.mark.skipif(not SHARED.exists(), reason=f"no {SHARED}")
@pytest.mark.parametrize("name", ["flickr8k/captions", "coco-photos/captions", "coco-captions/captions_val2017"])
def test_english_captions_are_divided_as_before(name: str) -> None:
    with zipfile.ZipFile(SHARED / f"{name}.zip") as archive:
        files = [json.loads(archive.read(member)) for member in archive.namelist() if member.endswith(".json")]
    captions = [annotation["caption"] for file in files for annotation in file["annotations"]]
    assert len(captions) > 500
    assert [c for c in captions if tokenize(c) != re.findall(r"\w+", c.lower())] == []
