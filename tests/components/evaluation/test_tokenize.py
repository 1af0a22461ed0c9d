import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import CaptioningError
from components.evaluation.tokenize import find_java, is_latin, tokenize_ptb, tokenize_unicode, tokenize_words

CAPTIONS = {
    "A man's dog, isn't big!": "a man 's dog is n't big",
    'Two "big" t-shirts: red; blue.': "two big t-shirts red blue",
    "A 3.5 m kite - it's the café’s…": "a 3.5 m kite it 's the café 's",
}


@pytest.mark.parametrize(("caption", "tokens"), CAPTIONS.items())
def test_words_separates_clitics_and_drops_punctuation(caption: str, tokens: str) -> None:
    assert tokenize_words([caption]) == [tokens]


@given(st.lists(st.text()))
def test_words_gives_one_stable_result_a_caption(captions: list[str]) -> None:
    tokens = tokenize_words(captions)
    assert len(tokens) == len(captions)
    assert tokenize_words(tokens) == tokens


@pytest.mark.skipif(shutil.which("java") is None, reason="the PTB tokenizer runs on Java, which is not installed")
def test_ptb_keeps_captions_and_lines_together() -> None:
    java = find_java()
    assert java is not None
    hostile = ["", "a\ncat\r\nsits", " ", "x\u2028y\x0bz", "\x00", "\ud800", "...", "mr. jr.", ""]
    expected = ["", "a cat sits", "", "x y z", "", "", "", "mr. jr.", ""]
    assert tokenize_ptb([*hostile, *CAPTIONS], java) == [*expected, *CAPTIONS.values()]


@pytest.mark.parametrize(("script", "fault"), [("cat; exit 3", "exit code 3"), ("head -1", "1 of 2 captions")])
def test_a_failing_java_is_a_user_error(tmp_path: Path, script: str, fault: str) -> None:
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    with pytest.raises(CaptioningError, match=fault):
        tokenize_ptb(["a cat", "a dog"], str(java))


@pytest.mark.parametrize(
    ("captions", "latin"),
    [
        (["a dog runs", "two men"], True),
        (["Ein Hund läuft über die Straße"], True),
        (["Một con chó đang chạy"], True),
        (["एक लड़का लाल कमीज में है"], False),
        (["犬が芝生の上を走っている"], False),
        (["كلب يجري", "a dog"], False),
        (["собака бежит", "a dog runs over the grass and jumps"], True),
        ([], True),
    ],
)
def test_the_script_of_captions_is_told(captions: list[str], latin: bool) -> None:
    assert is_latin(captions) == latin


def test_unicode_words_are_those_of_training() -> None:
    assert tokenize_unicode(["एक लड़का।", "犬が走る", ""]) == ["एक लड़का", "犬 が 走る", ""]
