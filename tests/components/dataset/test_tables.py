"""Tables as spreadsheets, databases and notebooks write them."""

import codecs
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.dataset.rows import decode, read_csv
from components.dataset.tables import DELIMITERS, listed
from components.errors import ConfigurationError

ROWS = [("a.jpg", "A dog, brown; small | fast\tred."), ("a.jpg", 'A "big" dog'), ("ü.jpg", "été")]


def text_of(rows: list[tuple[str, str]], delimiter: str, end: str = "\n", quote_all: bool = False) -> str:
    def field(text: str) -> str:
        quoted = quote_all or any(sign in text for sign in f'{delimiter}"\n\r')
        return '"' + text.replace('"', '""') + '"' if quoted else text

    return "".join(delimiter.join(map(field, row)) + end for row in [("image", "caption"), *rows])


def pairs(text: str, delimiter: str = "") -> list[tuple[str, str]]:
    rows = read_csv(text, "captions.csv", "image", "caption", delimiter)
    return list(zip(rows["name"], rows["caption"], strict=True))


def refused(text: str, delimiter: str = "") -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_csv(text, "captions.csv", "image", "caption", delimiter, {"seen"})
    assert "captions.csv" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("delimiter", "end", "quote_all", "encoding"),
    list(itertools.product(DELIMITERS, ["\n", "\r\n", "\r"], [False, True], ["utf-8", "utf-8-sig", "utf-16"])),
)
def test_a_table_is_read_however_it_was_exported(delimiter: str, end: str, quote_all: bool, encoding: str) -> None:
    content = text_of(ROWS, delimiter, end, quote_all).encode(encoding)
    assert pairs(decode(content, "captions.csv")) == ROWS


def test_a_byte_order_mark_may_be_of_either_order() -> None:
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        assert decode(mark + "é".encode(encoding), "x") == "é"


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nimage;caption\na;x, y\n",
        '"sep=;"\r\nimage;caption\r\na;x, y\r\n',
        "\timage\tcaption\n0\ta\tx, y\n",
        '"image" ; "caption"\na;x, y\n',
        "image;caption\r\r\na;x, y\r\r\n",
        "\n\nimage;caption\na;x, y\n",
        "id;image;caption;;\n1;a;x, y;;\n;;;;\n",
        'image_|"image"|"caption"\n1|a|x, y\n',
        "comment,with,commas|image|caption\n1|a|x, y\n",
        "image | number | caption\na | 0 | x, y\n",
        'image;caption\n"a";"x, y"\n',
        "image;caption\na;x, y;;;\n",
    ],
)
def test_the_delimiter_is_that_of_the_header(text: str) -> None:
    assert pairs(text) == [("a", "x, y")]


def test_a_delimiter_may_be_set() -> None:
    assert pairs("image~caption\na~x, y\n", "~") == [("a", "x, y")]
    assert pairs("image,caption\na,x; y\n", ",") == [("a", "x; y")]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "image| number| caption\na.jpg| 0| x\nb.jpg| 4   A dog runs .\n",
            "line 3 has 2 of 3 fields (b.jpg| 4   A dog runs .); put pipes between them",
        ),
        (
            "image,caption\na.jpg,x, y\n",
            "line 2 has 3 fields, the header 2 (a.jpg,x, y); put fields with commas in double quotes",
        ),
        ("image,caption,image\na,b,c\n", "several columns image"),
        ("file;text\na;b\n", "has no column image, caption; it has 'file', 'text'"),
        ("", "is empty"),
        ("\n \n", "is empty"),
        ('image,caption\na.jpg,"x\n', 'line 2: a quote opens here and is never closed (a.jpg,"x);'),
        (
            'image,caption\na.jpg,x\nb.jpg,"Stop sign\nc.jpg,y\nd.jpg,"Open sign\ne.jpg,z\n',
            'line 3: a quote opens here and is never closed (b.jpg,"Stop sign);',
        ),
        ('image\tcaption\na.jpg\t"x\nb.jpg\ty\n', 'line 2: a quote opens here and is never closed (a.jpg\t"x);'),
        (
            'image,caption\na.jpg,"x\nb.jpg,y"\nc.jpg,z\n',
            'line 2: a quote opens here and takes in whole rows, such as line 3 (a.jpg,"x);',
        ),
        (
            'image,caption\nc,z\na,"x\nc,y"\n',
            'line 3: a quote opens here and takes in whole rows, such as line 4 (a,"x);',
        ),
        (
            'image,caption\na,"x\nseen,y"\n',
            'line 2: a quote opens here and takes in whole rows, such as line 3 (a,"x);',
        ),
        (
            'caption,image\n"x,a.jpg\ny,b.jpg\nz",c.jpg\n',
            'line 2: a quote opens here and takes in whole rows, such as line 3 ("x,a.jpg);',
        ),
        ('image,caption\n"a.jpg","x\n"b.jpg","y"\n', 'line 2: a quote opens here and is never closed ("a.jpg","x);'),
        ('image,caption\n"a.jpg,"x"\n"b.jpg","y"\n', 'line 2: a quote opens here and is never closed ("a.jpg,"x");'),
        ("image,caption\na.jpg,'x, y'\n", "line 2 has 3 fields, the header 2"),
        ('image,caption\na.jpg,"x, y",z\n', "line 2 has 3 fields, the header 2"),
        (
            "image,caption\na.jpg\nb.jpg,x\nc.jpg\n",
            "line 2 has 1 of 2 fields (a.jpg); put commas between them (2 such lines)",
        ),
        ("image,caption\na.jpg,\"['x', 3]\"\n", "line 2: ['x', 3] is not a list of texts"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_by_its_line(text: str, fault: str) -> None:
    assert fault in refused(text)


@pytest.mark.parametrize(
    "caption",
    [
        'a 12" pizza',
        'the "big" dog',
        "it's a dog",
        "5' 2\"",
        'says \\"hi\\"',
        "“curly”",
        "a\nb",
        "one, two\nthree, four",
    ],
)
def test_quotes_and_line_ends_inside_a_caption_are_text(caption: str) -> None:
    assert pairs(text_of([("a.jpg", caption), ("b.jpg", "x")], ",")) == [("a.jpg", caption), ("b.jpg", "x")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    ("field", "caption"),
    [
        (r'"A \"big\" dog"', 'A "big" dog'),
        (r'"a dog called \"Rex\""', 'a dog called "Rex"'),
        (r'"He said \"hi\"@ then"', 'He said "hi"@ then'),
        (r'"A ""brown"" dog called \"Rex\""', 'A "brown" dog called "Rex"'),
        (r'"A dog called \"\""', 'A dog called ""'),
        ('"one ""dog""\ncalled \\"Rex\\""', 'one "dog"\ncalled "Rex"'),
        ('"C:\\dogs\\"', "C:\\dogs\\"),
        ('"a 12" pizza"', 'a 12" pizza'),
        ('"Stop" sign', '"Stop" sign'),
        (' "A dog@ fast" ', "A dog@ fast"),
        ("'A dog'", "'A dog'"),
        ('"one@ two\nthree@ four"', "one@ two\nthree@ four"),
        ('"one\r\n\r\ntwo"', "one\r\n\r\ntwo"),
    ],
)
def test_quotes_are_read_as_they_are_meant(field: str, caption: str, delimiter: str) -> None:
    """@ stands for the delimiter."""
    row = f"b.jpg,{field}\n".replace(",", delimiter, 1).replace("@", delimiter)
    text = f"image{delimiter}caption\n{row}a.jpg{delimiter}x\n"
    assert pairs(text) == [("b.jpg", caption.replace("@", delimiter)), ("a.jpg", "x")]


def test_a_quote_inside_an_unquoted_field_is_text() -> None:
    assert pairs('image,caption\na.jpg,a 12" pizza\nb.jpg,the "big" dog\n') == [
        ("a.jpg", 'a 12" pizza'),
        ("b.jpg", 'the "big" dog'),
    ]


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        ('["a dog", "a cat"]', ["a dog", "a cat"]),
        ("['a dog', \"it's a cat\"]", ["a dog", "it's a cat"]),
        ('["été"]', ["été"]),
        ("['a dog' 'a cat'\n 'it\\'s']", ["a dog", "a cat", "it's"]),
        ("[u'a dog', u'a cat']", ["a dog", "a cat"]),
        (' ["a dog"] ', ["a dog"]),
        ("('a dog', 'it\\'s')", ["a dog", "it's"]),
        ("('a dog',)", ["a dog"]),
        ("{'a dog', \"it's\"}", ["a dog", "it's"]),
        ("('a dog')", ["('a dog')"]),
        ("('a' dog, 'b' cat)", ["('a' dog, 'b' cat)"]),
        ("(a dog, a cat)", ["(a dog, a cat)"]),
        ("{a dog}", ["{a dog}"]),
        ("[a dog]", ["[a dog]"]),
        ("[]", ["[]"]),
        ("[1, 2]", ["[1, 2]"]),
        ("a dog", ["a dog"]),
        ("[" * 3000 + "]" * 3000, ["[" * 3000 + "]" * 3000]),
        ("[__import__('os')]", ["[__import__('os')]"]),
    ],
)
def test_a_list_in_a_cell_is_as_many_captions(cell: str, texts: list[str]) -> None:
    assert listed(cell) == texts


@pytest.mark.parametrize(
    "cell",
    [
        *('["a dog", null]', "['a dog', nan]", "['a dog', ['x']]", "['a', 'b' + 'c']"),
        *("{'raw': 'a dog'}", '[{"raw": "a dog"}]', "[('a dog', 1)]"),
    ],
)
def test_what_looks_like_a_list_of_captions_and_is_none_is_refused(cell: str) -> None:
    with pytest.raises(ValueError, match="is not a list of texts"):
        listed(cell)


def test_lines_are_counted_as_an_editor_does() -> None:
    rows = read_csv('\nimage,caption\na,"x\ny"\n\nb,z\n', "captions.csv", "image", "caption")
    assert rows.index.tolist() == [3, 6]
    assert "line 6 has 1 of 2 fields" in refused('\nimage,caption\na,"x\ny"\n\nb\n')


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


@given(
    rows=st.lists(st.tuples(st.sampled_from(["a.jpg", "b/c.png"]), texts.filter(str.strip)), min_size=1, max_size=5),
    delimiter=st.sampled_from(DELIMITERS),
)
def test_any_caption_comes_back(rows: list[tuple[str, str]], delimiter: str) -> None:
    kept = [(name, text) for name, text in rows if not text.startswith("[")]
    assert pairs(text_of([*kept, ("a.jpg", "x")], delimiter, quote_all=True)) == [*kept, ("a.jpg", "x")]


def test_flickr_30k_s_own_file_is_read(tmp_path: Path) -> None:
    text = "image_name| comment_number| comment\n1.jpg| 0| Two men .\n1.jpg| 1| A man , in green .\n"
    rows = read_csv(text, "results.csv", "image_name", "comment")
    assert rows.to_numpy().tolist() == [["1.jpg", "Two men ."], ["1.jpg", "A man , in green ."]]
