"""Captions into the words that scorers compare: by the Stanford PTB tokenizer, or without Java."""

import logging
import re
import shutil
import subprocess
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pycocoevalcap.tokenizer import ptbtokenizer

from components.errors import CaptioningError
from components.vocabulary.tokenizer import tokenize

logger = logging.getLogger(__name__)

Tokenized = dict[int, list[str]]
"""Image id → tokenised captions, as the scorers want it."""

JAVA_OPTIONS: Final = ("-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8")
"""Without them Java reads and writes in the locale's encoding, plain ASCII in many containers."""

_PTB_LINE_ENDS: Final = re.compile("[\n\r\v\f\u2028\u2029]")  # what the PTB lexer takes for the end of a line
ENGLISH_LIKE: Final = 0.5
"""Share of Latin letters in the references from which the tokenizers made for English are used."""
_WORDS: Final = re.compile(r"n't\b|'(?:s|m|d|re|ve|ll)\b|\w+?(?=n't\b)|\w+(?:[-./]\w+)*")


def find_java() -> str | None:
    """The `java` command when it is on the PATH and runs (macOS ships one that only asks to install it)."""
    java = shutil.which("java")
    if java is None:
        return None
    answer = subprocess.run([java, "-version"], capture_output=True, check=False)
    if answer.returncode != 0:
        logger.warning("%s is there but `java -version` fails (exit %d): going without it", java, answer.returncode)
        return None
    return java


def tokenize_ptb(captions: Sequence[str], java: str) -> list[str]:
    """Each caption as the COCO evaluation tokenises it: lower-case PTB tokens without punctuation.

    Equal to pycocoevalcap's `PTBTokenizer`, with one Java call for all captions, nothing written to disk,
    UTF-8 whatever the locale, and exactly one result a caption (empty when it has no word). `java` is the
    command. Raises `CaptioningError` when Java fails, or answers with another number of lines than it was given.
    """
    jar = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    command = [java, *JAVA_OPTIONS, "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    text = "".join(_PTB_LINE_ENDS.sub(" ", caption) + "\n" for caption in captions)
    answer = subprocess.run(
        [*command, "-preserveLines", "-lowerCase"],
        input=text.encode("utf-8", errors="replace"),
        capture_output=True,
        check=False,
    )
    lines = answer.stdout.decode("utf-8", errors="replace").split("\n")[:-1]
    if answer.returncode != 0 or len(lines) != len(captions):
        complaint = answer.stderr.decode(errors="replace")[-500:].strip()
        raise CaptioningError(
            f"The PTB tokenizer ({java}, {jar.name}) ended with exit code {answer.returncode} and "
            f"{len(lines)} of {len(captions)} captions: {complaint}\n"
            'Mend the Java installation (8 or newer), or score with tokenizer="words".'
        )
    punctuation = frozenset(ptbtokenizer.PUNCTUATIONS)
    return [" ".join(w for w in line.rstrip().split(" ") if w not in punctuation) for line in lines]


def tokenize_words(captions: Sequence[str]) -> list[str]:
    """Each caption's words in lower case without punctuation, clitics (`'s`, `n't`) apart; needs no Java.

    Differs from the PTB tokenizer in about one caption of a thousand: it drops `#`, `&` and the full stop of
    abbreviations. Scores are comparable only with scores of the same tokenizer.
    """
    return [" ".join(_WORDS.findall(caption.lower().replace("’", "'"))) for caption in captions]


def tokenize_unicode(captions: Sequence[str]) -> list[str]:
    """Each caption's words as training divides it, in any script (`components.vocabulary.tokenizer`)."""
    return [" ".join(tokenize(caption)) for caption in captions]


def is_latin(captions: Sequence[str]) -> bool:
    """Whether captions are in Latin script for the most part, as English is."""
    letters = [letter for caption in captions if not caption.isascii() for letter in caption if letter.isalpha()]
    latin = sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    plain = sum(len(caption) for caption in captions if caption.isascii())
    return latin + plain >= ENGLISH_LIKE * (len(letters) + plain)
