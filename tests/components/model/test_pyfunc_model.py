import base64
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from components.decoder.caption import Search
from components.errors import CaptioningError
from components.model.captioner import Captioner
from components.registry.registration import register
from components.registry.tracking import connect, tracked_run

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")  # its own imports warn

Photograph = Callable[[int], bytes]


def loaded(package: Path, migrated: Path, folder: Path) -> Iterator[Any]:
    connect(f"sqlite:///{shutil.copy(migrated, folder / 'mlflow.db')}", folder / "artifacts")
    with tracked_run("run", {}) as run_id:
        model = register(package, "digest", "captioner", run_id, {}, "a card", None)
    yield mlflow.pyfunc.load_model(model.uri)
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


@pytest.fixture(scope="module")
def served(package: Path, migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The registered model as MLflow loads it, its signature enforced."""
    yield from loaded(package, migrated, tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def served_pair(pair: Path, migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The same of a model with two encoders."""
    yield from loaded(pair, migrated, tmp_path_factory.mktemp("served-pair"))


def table(*images: object) -> pd.DataFrame:
    return pd.DataFrame({"image": pd.Series(images, dtype=object)})


def expected(package: Path, photographs: list[bytes], search: Search) -> list[str]:
    captioner = Captioner(package / "captioner")
    embeddings, bad = captioner.embed(photographs)
    assert not bad
    return [best.text for best, *_ in captioner.caption(embeddings, search)]


def test_bytes_and_base64_are_captioned_and_a_broken_image_says_why(
    served: Any, package: Path, photograph: Photograph
) -> None:
    photographs = [photograph(n) for n in range(4)]
    text = base64.b64encode(photographs[1]).decode()
    rows = served.predict(table(photographs[0], b"no image", text, "no image", photographs[2], b"", photographs[3]))
    assert list(rows.columns) == ["caption", "logprob", "captions", "logprobs", "error"]
    good = rows[rows["error"] == ""]
    assert list(good.index) == [0, 2, 4, 6]
    assert list(good["caption"]) == expected(package, photographs, Search())
    assert (good["logprob"] < 0).all()
    assert "NaN" not in rows.to_json(orient="records")
    assert list(rows["logprob"].isna()) == list(rows["error"] != "")
    bad = rows[rows["error"] != ""]
    assert list(bad.index) == [1, 3, 5]
    assert (bad["caption"] == "").all()
    assert bad["logprob"].isna().all()
    assert "empty" in bad.loc[5, "error"]


def test_a_model_with_several_encoders_is_served_alike(served_pair: Any, pair: Path, photograph: Photograph) -> None:
    photographs = [photograph(n) for n in range(6)]
    rows = served_pair.predict(table(*photographs[:2], b"no image", *photographs[2:], b""), params={"search": "beam"})
    assert list(rows["error"] != "") == [False, False, True, False, False, False, False, True]
    good = rows[rows["error"] == ""]
    assert list(good["caption"]) == expected(pair, photographs, Search("beam"))
    assert good["caption"].nunique() > 1
    assert "empty" in rows.loc[7, "error"]
    assert len(served_pair.predict(table())) == 0


@pytest.mark.parametrize("unreadable", ["é", "data:image/jpeg;base64,////", "a", None, float("nan")])
def test_whatever_a_cell_holds_the_other_images_are_captioned(
    served: Any, photograph: Photograph, unreadable: object
) -> None:
    rows = served.predict(table(photograph(1), unreadable, photograph(2)))
    assert list(rows["error"] != "") == [False, True, False]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        *[({"embedding": value}, "5 finite numbers") for value in ([1.0], list("abcde"), [[1], [2, 3]], [10**400] * 5)],
        ({"embedding": "abc"}, "embedding is of type str"),
        ({"image": {"b64": "abc"}}, "image is of type dict: an image is base64 text"),
        ({"image": ["abc"]}, "image is of type list"),
        ({"image": 5}, "image is of type int"),
        ({"image": np.zeros(3)}, "image is of type ndarray"),
        ({}, "no image, no embedding and no path"),
    ],
)
def test_a_row_of_the_wrong_type_says_so_and_leaves_its_neighbours(
    served: Any, photograph: Photograph, wrong: dict[str, object], reason: str
) -> None:
    good = {"image": photograph(1)}
    rows = served.predict(pd.DataFrame([good, wrong, good]))
    assert list(rows["error"] != "") == [False, True, False]
    assert reason in rows.loc[1, "error"]


def test_a_column_of_text_is_captioned(served: Any, package: Path, photograph: Photograph) -> None:
    photographs = [photograph(n) for n in range(3)]
    rows = served.predict(pd.DataFrame({"image": [base64.b64encode(photo).decode() for photo in photographs]}))
    assert list(rows["caption"]) == expected(package, photographs, Search())


def test_none_good_and_none_at_all(served: Any) -> None:
    assert list(served.predict(table(b"no", b"image"))["caption"]) == ["", ""]
    assert len(served.predict(table())) == 0


def test_the_order_is_the_inputs_whatever_their_index(served: Any, package: Path, photograph: Photograph) -> None:
    photographs = [photograph(n) for n in (5, 3, 9)]
    given = table(*photographs)
    given.index = pd.Index([30, 10, 10])
    assert list(served.predict(given)["caption"]) == expected(package, photographs, Search())


@pytest.mark.parametrize(
    ("params", "search"),
    [
        ({"search": "beam"}, Search("beam")),
        ({"search": "beam", "beam": 2}, Search("beam", beam=2)),
        ({"search": "sample", "temperature": 2.0, "seed": 11}, Search("sample", temperature=2.0, seed=11)),
    ],
)
def test_parameters_choose_the_search(
    served: Any, package: Path, photograph: Photograph, params: dict[str, Any], search: Search
) -> None:
    photographs = [photograph(n) for n in range(12)]
    found = list(served.predict(table(*photographs), params=params)["caption"])
    assert found == expected(package, photographs, search)


def test_the_best_captions_come_with_their_probabilities(served: Any, package: Path, photograph: Photograph) -> None:
    rows = served.predict(table(photograph(1), b"no image"), params={"search": "beam", "beam": 2, "top_n": 4})
    captioner = Captioner(package / "captioner")
    (ranked,) = captioner.caption(captioner.embed([photograph(1)])[0], Search("beam", beam=4))
    assert list(rows.loc[0, "captions"]) == [caption.text for caption in ranked]
    assert list(rows.loc[0, "logprobs"]) == pytest.approx([caption.logprob for caption in ranked], rel=1e-5)
    assert (rows.loc[0, "caption"], rows.loc[0, "logprob"]) == (rows.loc[0, "captions"][0], rows.loc[0, "logprobs"][0])
    assert (list(rows.loc[1, "captions"]), list(rows.loc[1, "logprobs"])) == ([], [])


def test_captions_are_as_short_as_asked(served: Any, photograph: Photograph) -> None:
    rows = served.predict(table(*(photograph(n) for n in range(6))), params={"max_length": 1})
    assert rows["caption"].str.split().str.len().max() == 1


def test_embeddings_are_captioned_as_their_photographs(served: Any, package: Path, photograph: Photograph) -> None:
    photographs = [photograph(n) for n in range(3)]
    vectors, _ = Captioner(package / "captioner").embed(photographs)
    wrong = [[0.0], [float("nan")] * 5]
    rows = served.predict(pd.DataFrame({"embedding": [*vectors.tolist(), *wrong]}))
    assert list(rows["caption"][:3]) == expected(package, photographs, Search())
    assert list(rows["error"]) == ["", "", "", *["an embedding is 5 finite numbers"] * 2]


def test_paths_are_read_below_an_allowed_root_only(
    served: Any, package: Path, photograph: Photograph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root").mkdir()
    for name in ("root/a.jpg", "outside.jpg"):
        (tmp_path / name).write_bytes(photograph(4))
    (tmp_path / "root" / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    paths = [
        "a.jpg",
        str(tmp_path / "root" / "a.jpg"),
        "../outside.jpg",
        str(tmp_path / "outside.jpg"),
        "link.jpg",
        "no",
    ]
    assert served.predict(pd.DataFrame({"path": paths}))["error"].str.contains("CAPTIONING_IMAGE_ROOT").all()
    monkeypatch.setenv("CAPTIONING_IMAGE_ROOT", str(tmp_path / "root"))
    rows = served.predict(pd.DataFrame({"path": paths}))
    assert list(rows["caption"][:2]) == expected(package, [photograph(4)], Search()) * 2
    assert rows["error"][2:5].str.contains("is not in the folder").all()
    assert "cannot be read" in rows["error"][5]


def test_a_model_without_encoder_takes_embeddings_only(
    package_without_encoder: Path, migrated: Path, photograph: Photograph, tmp_path: Path
) -> None:
    captioner = Captioner(package_without_encoder / "captioner")
    assert (captioner.encoders, captioner.fingerprint, captioner.dimension) == ((), "0123456789abcdef", 5)
    with pytest.raises(CaptioningError, match="has no encoder in it"):
        captioner.embed([photograph(1)])
    (model,) = loaded(package_without_encoder, migrated, tmp_path)
    assert list(model.predict(table(photograph(1)))["error"]) == ["this model has no encoder in it: give embeddings"]
    assert model.predict(pd.DataFrame({"embedding": [[0.5] * 5]}))["caption"][0] != ""


def test_parameters_that_make_no_sense_are_refused(served: Any, photograph: Photograph) -> None:
    for params in ({"search": "best"}, {"search": "beam", "beam": 0}):
        with pytest.raises(Exception, match="must be"):
            served.predict(table(photograph(0)), params=params)


def test_a_table_without_any_of_the_columns_is_refused(served: Any) -> None:
    model = served.unwrap_python_model()
    with pytest.raises(Exception, match="one of the columns embedding, image, path; here is none of them"):
        model.predict(pd.DataFrame({"img": ["x"]}))
