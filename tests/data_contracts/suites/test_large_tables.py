"""Tables of the size of COCO 2014, made of random words: what the contracts cost is measured elsewhere."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from components.vocabulary.vocabulary import Vocabulary
from data_contracts.limits import Limits
from data_contracts.report import ContractReport
from data_contracts.schema import CAPTIONS, EMBEDDING_INDEX, IMAGES, PHOTOGRAPHS
from data_contracts.suites import captions, images, predictions, training_set, vocabulary

COUNT = 120_000
"""Images, of five captions each."""
LAST = COUNT - 1


def sentences(count: int) -> list[str]:
    """Captions of eight words, of some six thousand."""
    letters = np.array(list("bcdfgklmnprstvwz"))
    stems = ["".join(word) for word in letters[np.indices((16, 16, 16)).reshape(3, -1).T[:3000]]]
    numbers = np.random.default_rng(0).integers(0, len(stems), (4, count)).tolist()
    return [f"a {stems[a]}y {stems[b]} with the {stems[c]}y {stems[d]}s" for a, b, c, d in zip(*numbers, strict=True)]


def table(columns: dict[str, object], schema: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(columns).astype({name: schema[name] for name in columns})


def broken(report: ContractReport) -> dict[str, tuple[str, ...]]:
    return {rule.rule: rule.offenders for rule in report.rules if not rule.passed}


def training_words(texts: pd.DataFrame) -> Iterable[list[str]]:
    return (tokens.split() for tokens in texts.loc[texts["split"] == "train", "tokens"])


def test_one_fault_among_six_hundred_thousand_captions_is_found() -> None:
    ids = np.arange(COUNT)
    split, digests = np.where(ids % 3 == 0, "val", "train"), [f"{i:064x}" for i in ids]
    files = {"image_id": ids, "archive": "a.zip", "file_name": [f"images/{i:012}.jpg" for i in ids]}
    tokens = sentences(5 * COUNT)
    tokens[-1] = tokens[-2]
    tokens[-3] = "zwei hunde"
    listed = table({**files, "split": split, "name": files["file_name"], "nearest": ""}, IMAGES)
    texts = table(
        {
            "caption_id": np.arange(5 * COUNT),
            "image_id": np.repeat(ids, 5),
            "split": np.repeat(split, 5),
            "caption": [f"{text.capitalize()}." for text in tokens],
            "tokens": tokens,
        },
        CAPTIONS,
    )
    words = Vocabulary.build(training_words(texts), 5).to_frame()
    index = table({"image_id": ids, "digest": digests, "shard": ids // 1024, "row": ids % 1024}, EMBEDDING_INDEX)
    photographs = table({**files, "bytes": 160_000, "digest": digests, "error": ""}, PHOTOGRAPHS)
    photographs.loc[LAST, "digest"] = digests[LAST - 1]
    described = pd.DataFrame({"image_id": ids, "caption": tokens[::5], "logprob": -5.0, "status": "ok", "error": ""})
    described = described.astype(dict.fromkeys(["caption", "status", "error"], "str"))
    described.loc[LAST, "caption"] = "a cat"

    limits, splits = Limits(), {"train_split": "train", "validation_split": "val"}
    where = f"image_id={LAST}, split=train, file_name=images/{LAST:012}.jpg"
    assert broken(captions.check(texts, listed, limits, **splits)) == {
        "caption-once": (f"caption_id={5 * COUNT - 1}, image_id={LAST}, caption={texts['caption'].iloc[-1]}",)
    }
    assert broken(vocabulary.check(words, texts, limits, train_split="train")) == {}
    assert broken(images.check(photographs, listed, limits)) == {"photograph-once": (f"{where}, twin={LAST - 1}",)}
    assert broken(training_set.check(texts, words, index, limits, max_length=20, **splits)) == {
        "caption-has-known-words": (f"caption_id={5 * COUNT - 3}, image_id={LAST}, caption=Zwei hunde.",)
    }
    assert broken(predictions.check(described, ids, limits)) == {"caption-length": (f"image_id={LAST}",)}
