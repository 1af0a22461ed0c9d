import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from components.decoder.caption import Caption
from components.evaluation.gallery import Card, Section, Tile
from components.evaluation.gallery_selection import EvaluationInputs, OwnPictures, choose, measure_tiles, score_tiles
from components.vocabulary.vocabulary import Vocabulary

IMAGES = [100, 101, 102, 103, 104, 105, 106]
CIDER = {100: 0.2, 101: 2.0, 102: 0.0, 103: 1.0, 104: 3.0, 105: 0.5, 106: 0.9}

Choose = Callable[..., dict[str, Section]]


def predictions(cider: Mapping[int, float], logprob: Mapping[int, float] | None = None) -> pd.DataFrame:
    chances = dict.fromkeys(cider, -3.0) | dict(logprob or {})
    return pd.DataFrame({"image_id": list(cider), "cider": list(cider.values())}).assign(
        logprob=[chances[image] for image in cider]
    )


@pytest.fixture
def chosen(material: EvaluationInputs, make_captioner: Callable[..., Any]) -> Choose:
    """The sections by kind."""

    def go(found: pd.DataFrame, count: int = 3, own: OwnPictures | None = None) -> dict[str, Section]:
        captions = {image: Caption(f"scored {image}", (-1.0, -1.0, -1.0)) for image in found["image_id"]}
        sections = choose(found, captions, make_captioner(), dataclasses.replace(material, own=own), count)
        assert [section.kind for section in sections if section.kind != "random"] == ["best", "worst", "own"]
        return {section.kind: section for section in sections}

    return go


def ids(section: Section) -> list[int]:
    return [int(card.name.split("image ")[1]) for card in section.cards]


def test_the_best_and_the_worst_are_those_of_the_scores(chosen: Choose) -> None:
    sections = chosen(predictions(CIDER))
    assert ids(sections["best"]) == [104, 101, 103]
    assert ids(sections["worst"]) == [102, 100, 105]


def test_of_equal_scores_the_likelier_caption_is_the_better(chosen: Choose) -> None:
    sections = chosen(predictions(dict.fromkeys(IMAGES, 1.0), {103: -1.0, 105: -2.0, 101: -9.0}), count=2)
    assert ids(sections["best"]) == [103, 105]
    assert ids(sections["worst"])[0] == 101


@pytest.mark.parametrize("count", [1, 3, 4, 60])
@pytest.mark.parametrize("images", [2, 3, 7])
def test_no_image_is_among_the_best_and_the_worst(chosen: Choose, count: int, images: int) -> None:
    sections = chosen(predictions({image: CIDER[image] for image in IMAGES[:images]}), count)
    best, worst = (ids(sections[kind]) for kind in ("best", "worst"))
    assert not set(best) & set(worst)
    assert len(best) == len(worst) == min(count, images // 2)
    if len(best) + len(worst) < images:  # else all are shown already
        random = ids(sections["random"])
        assert len(set(random)) == len(random) == min(count, images)
    else:
        assert "random" not in sections
    assert f"The {len(best)} captions with" in sections["best"].lead


def test_what_is_drawn_at_random_depends_on_neither_scores_nor_the_order_of_rows(chosen: Choose) -> None:
    drawn = ids(chosen(predictions(CIDER))["random"])
    turned = {image: 3 - CIDER[image] for image in reversed(IMAGES)}
    assert ids(chosen(predictions(turned))["random"]) == drawn
    assert drawn != sorted(drawn)


def test_a_card_has_the_images_own_photograph_references_and_score(
    chosen: Choose, material: EvaluationInputs, photograph: Callable[[int], bytes]
) -> None:
    sections = chosen(predictions(CIDER), 60)
    cards: list[Card] = [card for kind in ("best", "worst", "random") for card in sections[kind].cards]
    assert len(cards) == 3 + 3 + 7
    for card in cards:
        image = int(card.name.split("image ")[1])
        written = material.captions.loc[material.captions["image_id"] == image, "caption"]
        assert card.name == f"{image}.jpg, image {image}"
        assert card.photograph == photograph(image)
        assert card.references == tuple(written)
        assert card.cider == CIDER[image]
        assert card.caption.text == f"scored {image}"
        best, *others = card.ranked
        assert best.text == written.iloc[0].lower().strip(".")
        assert [caption.text for caption in others] == [best.text + " more" * rank for rank in range(1, 5)]


def test_an_image_that_two_splits_list_is_shown_once(
    material: EvaluationInputs, make_captioner: Callable[..., Any], photograph: Callable[[int], bytes]
) -> None:
    twice = dataclasses.replace(material, images=pd.concat([material.images, material.images]))
    captions = {image: Caption("a kite", (-1.0, -1.0, -1.0)) for image in CIDER}
    best = choose(predictions(CIDER), captions, make_captioner(), twice, 3)[0]
    assert [card.photograph for card in best.cards] == [photograph(image) for image in (104, 101, 103)]


def test_photographs_come_from_the_archive_of_their_source(
    material: EvaluationInputs, make_captioner: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere" / "photos"
    folder.mkdir(parents=True)
    (folder / "104.jpg").write_bytes(b"another photograph")
    images = material.images.assign(
        archive=np.where(material.images["image_id"] == 104, "folder", material.images["archive"])
    )
    two = dataclasses.replace(material, images=images, archives={**material.archives, "folder": folder.parent})
    captions = {image: Caption("a kite", (-1.0, -1.0, -1.0)) for image in CIDER}
    best = choose(predictions(CIDER), captions, make_captioner(), two, 2)[0]
    assert best.cards[0].photograph == b"another photograph"
    assert best.cards[1].photograph.startswith(b"\xff\xd8")


def test_all_of_ones_own_pictures_are_shown_and_nothing_is_known_of_them(chosen: Choose) -> None:
    own = OwnPictures({f"mine {n}.jpg": bytes([n]) for n in range(5)}, np.repeat(np.arange(200, 205)[:, None], 5, 1))
    cards = chosen(predictions(CIDER), 1, own)["own"].cards
    assert [(card.name, card.photograph) for card in cards] == [(f"mine {n}.jpg", bytes([n])) for n in range(5)]
    assert [card.caption.text.split()[2] for card in cards] == ["kite", "dog", "boat", "tree", "horse"]
    assert all(len(card.ranked) == 5 and card.caption == card.ranked[0] for card in cards)
    assert {(card.references, card.cider) for card in cards} == {((), None)}
    assert not chosen(predictions(CIDER), 1)["own"].cards


def test_score_tiles_come_as_papers_print_them_with_their_intervals() -> None:
    metrics = {"bleu1": 0.7012, "bleu4": 0.3, "cider": 1.0349, "distinct": 0.5}
    intervals = {"bleu1": (0.69, 0.71), "bleu4": (0.28, 0.3206), "cider": (0.995, 1.07)}
    assert score_tiles(metrics, intervals) == [
        Tile("CIDEr", "103.5", "99.5 to 107.0"),
        Tile("BLEU-4", "30.0", "28.0 to 32.1"),
        Tile("BLEU-1", "70.1", "69.0 to 71.0"),
    ]


def test_every_score_has_its_tile() -> None:
    names = ["bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider", "meteor", "spice"]
    tiles = score_tiles(dict.fromkeys(names, 0.5), dict.fromkeys(names, (0.4, 0.6)))
    labels = ["CIDEr", "BLEU-4", "METEOR", "ROUGE-L", "SPICE", "BLEU-1", "BLEU-2", "BLEU-3"]
    assert [tile.label for tile in tiles] == labels


def test_measures_are_written_as_people_read_them() -> None:
    metrics = {"cider_shuffled": 0.0512, "distinct": 0.456, "novel": 1.0, "words_used": 1234.0, "length": 9.06}
    vocabulary = Vocabulary.build([[f"w{number}" for number in range(5000)]], 1)
    assert [(tile.value, tile.note) for tile in measure_tiles(metrics | {"dangling": 0.0123}, vocabulary)] == [
        ("5.1", ""),
        ("46%", ""),
        ("100%", ""),
        ("1,234", "of 5,000"),
        ("9.1", "words"),
        ("1.2%", ""),
    ]
