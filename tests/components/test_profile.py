from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from components.errors import ConfigurationError
from components.profile import Profile, load_profile
from components.training_config import DecoderConfig, SelfCriticalConfig, TrainingConfig
from tests.recipes import notebook_decoder, notebook_training

PROFILES = Path(__file__).parents[2] / "flows" / "profiles"
DEMO = PROFILES / "demo.toml"

ONE_SOURCE = """
[dataset]
{dataset}
[dataset.sources.all]
images = "all.zip"
captions = "all.json"
annotations = ""
[encoder]
name = "efficientnet_lite0"
weights = "package"
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "mine.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def mine(folder: Path, text: str = "", **overrides: str) -> Profile:
    """A profile of one source with `text` as its first lines, and `section__key` set."""
    path = written(folder, text + ONE_SOURCE.format(dataset="holdout = 0.5"))
    return load_profile(path, {key.replace("__", "."): value for key, value in overrides.items()})


def demo(**overrides: str) -> Profile:
    """The demo profile with `section__key` replaced."""
    return load_profile(DEMO, {key.replace("__", "."): text for key, text in overrides.items()})


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_profiles_are_valid(path: Path) -> None:
    profile = load_profile(path, {})
    assert profile.name == path.stem
    assert Profile.model_validate_json(profile.model_dump_json()) == profile
    assert {profile.dataset.train_split, profile.dataset.validation_split} == set(profile.dataset.sources)


def test_coco2014_has_the_numbers_of_the_notebook() -> None:
    profile = load_profile(PROFILES / "coco2014.toml", {})
    decoder = profile.decoder
    sizes = (decoder.image_projection, decoder.word_embedding, decoder.lstm_units, decoder.output_projection)
    assert sizes == (120, 100, 300, 120)
    training = profile.training
    assert (decoder.max_length, training.batch_size, training.epochs, training.steps_per_epoch) == (20, 64, 12, 1000)
    assert (training.learning_rate, decoder.separate_states) == (1e-3, False)
    assert decoder == notebook_decoder()
    assert training == notebook_training(steps_per_epoch=1000, notebook_loss=True)
    assert profile.vocabulary.min_count == 5
    assert (profile.encoder.name, profile.encoder.weights) == ("inception_v3", "imagenet")
    assert (profile.dataset.sample, profile.dataset.max_images) == (1, None)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("decodr.lstm_units", "decodr: unknown key; did you mean decoder?"),
        ("nam", "nam: unknown key; did you mean name?"),
        ("decoder.lstm_unit", "decoder.lstm_unit: unknown key; did you mean lstm_units?"),
        ("trainin.epochs", "trainin: unknown key; did you mean training?"),
        ("training.epoch", "training.epoch: unknown key; did you mean epochs?"),
        ("training.lerning_rate", "training.lerning_rate: unknown key; did you mean learning_rate?"),
        ("further_encoder.second.name", "further_encoder: unknown key; did you mean further_encoders?"),
        ("limits.max_vocabulry", "limits.max_vocabulry: unknown key; did you mean max_vocabulary?"),
        ("dataset.scenes.seed", "dataset.scenes: unknown key; did you mean"),
        ("dataset.sources.train.imges", "dataset.sources.train.imges: unknown key; did you mean images?"),
        ("registry.zzz", "registry.zzz: unknown key; known are model_name"),
        ("decoder.epochs", "decoder.epochs: unknown key; did you mean training.epochs?"),
        # Sections that the file lacks.
        ("training.self_critical.sample", "training.self_critical.sample: unknown key; did you mean samples?"),
        ("further_encoders.second.weight", "further_encoders.second.weight: unknown key; did you mean weights?"),
        ("further_encoders.name.weight", "further_encoders.name.weight: unknown key; did you mean weights?"),
    ],
)
def test_unknown_key_is_named_with_its_nearest_match(key: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_profile(DEMO, {key: "5"})
    assert f"\n  {message}" in str(caught.value)
    assert "demo.toml" in str(caught.value)


def test_unknown_key_in_a_source_named_like_a_key(tmp_path: Path) -> None:
    text = ONE_SOURCE.format(dataset="holdout = 0.5").replace("sources.all", "sources.images")
    with pytest.raises(ConfigurationError, match="did you mean captions"):
        load_profile(written(tmp_path, text), {"dataset.sources.images.caption": "x"})


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        demo(training__epochs="0", encoder__naem="x", dataset__sample="2")
    assert len(str(caught.value).splitlines()) == 4
    for key in ("training.epochs", "encoder.naem", "dataset.sample"):
        assert f"  {key}: " in str(caught.value)


def test_overrides_take_the_type_of_their_key() -> None:
    profile = demo(
        decoder__lstm_units="512",
        training__learning_rate="3e-4",
        decoder__separate_states="true",
        dataset__root="https://example.org/data",
        dataset__mirrors='["https://a.example.org/coco", "s3://bucket/coco"]',
        encoder__weights="123",
        limits__max_bad_fraction="0",
    )
    assert profile.decoder.lstm_units == 512
    assert profile.training.learning_rate == 3e-4
    assert profile.decoder.separate_states is True
    assert demo(decoder__separate_states="false").decoder.separate_states is False
    assert profile.dataset.root == "https://example.org/data"
    assert profile.dataset.mirrors == ("https://a.example.org/coco", "s3://bucket/coco")
    assert profile.encoder.weights == "123"
    assert profile.limits.max_bad_fraction == 0


@given(st.integers(1, 2**31 - 1), st.floats(1e-9, 1e9))
def test_numbers_survive_as_text(units: int, rate: float) -> None:
    profile = demo(decoder__lstm_units=str(units), training__learning_rate=repr(rate))
    assert (profile.decoder.lstm_units, profile.training.learning_rate) == (units, rate)


@given(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: not text.startswith(("[", "{", "~"))))
def test_any_text_can_be_given_as_a_root(root: str) -> None:
    assert demo(dataset__root=root).dataset.root == root


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("decoder.lstm_units", "many", "decoder.lstm_units: Input should be a valid integer"),
        ("decoder.lstm_units", "0", "decoder.lstm_units: Input should be greater than 0"),
        ("decoder.lstm_units", "[1, 2]", "decoder.lstm_units: Input should be a valid integer"),
        ("decoder.lstm_units", str(2**31), "decoder.lstm_units: Input should be less than 2147483648"),
        ("dataset.root", "~no one/photos", "'~no one/photos' is no path and no address: Could not determine home"),
        ("decoder.max_length", "2", "decoder.max_length: Input should be greater than or equal to 3"),
        ("decoder.separate_states", "perhaps", "decoder.separate_states: Input should be a valid boolean"),
        ("training.epochs", "few", "training.epochs: Input should be a valid integer"),
        ("training.warmup_fraction", "1", "training.warmup_fraction: Input should be less than 1"),
        ("training.precision", "float16", "training.precision: Input should be 'float32' or 'bfloat16'"),
        (
            "training.self_critical.samples",
            "1",
            "training.self_critical.samples: Input should be greater than or equal",
        ),
        ("training.self_critical.images", "5", "training.self_critical.epochs: Field required"),
        ("recipe", "strongest", "recipe: Input should be 'strong' or 'notebook'"),
        ("dataset.sample", "nan", "dataset.sample: Input should be"),
        ("dataset.sources", "{ train = 5", "cannot set dataset.sources: '{ train = 5' is not valid TOML"),
        ("dataset.sources", "{}", "dataset.sources: Dictionary should have at least 1"),
        ("dataset.sources.dev.format", "tsv", "dataset.sources.dev.format: Input should be 'coco', 'karpathy'"),
        ("encoder", "inception_v3", "encoder: Input should be a valid dictionary"),
        ("encoder.name.first", "x", "cannot set encoder.name.first: name is a value, not a section"),
        ("training.epochs.first", "x", "cannot set training.epochs.first: epochs is a value, not a section"),
    ],
)
def test_bad_override_is_named(key: str, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_profile(DEMO, {key: text})
    assert message in str(caught.value)


def test_overrides_can_make_a_section_that_the_file_lacks(tmp_path: Path) -> None:
    assert mine(tmp_path, training__epochs="3").training.epochs == 3
    assert mine(tmp_path, training__self_critical__epochs="2").training.self_critical == SelfCriticalConfig(epochs=2)
    assert mine(tmp_path).training.self_critical is None
    assert mine(tmp_path).name == "mine"


def test_a_profile_that_says_nothing_means_the_strong_recipe(tmp_path: Path) -> None:
    profile = mine(tmp_path)
    assert (profile.recipe, profile.decoder, profile.training) == ("strong", DecoderConfig(), TrainingConfig())
    assert (profile.decoder.lstm_units, profile.training.label_smoothing) == (512, 0.1)


def test_the_notebooks_recipe_is_its_network_and_adam_alone(tmp_path: Path) -> None:
    for profile in (mine(tmp_path, 'recipe = "notebook"'), mine(tmp_path, recipe="notebook")):
        assert (profile.decoder, profile.training) == (notebook_decoder(), notebook_training())
        assert (profile.decoder.image_projection, profile.training.clip_norm) == (120, 0)


def test_a_recipe_lies_beneath_the_profile_and_the_profile_beneath_what_is_set(tmp_path: Path) -> None:
    own = 'recipe = "notebook"\ndecoder = { lstm_units = 64 }\ntraining = { epochs = 3, clip_norm = 1.0 }\n'
    profile = mine(tmp_path, own, training__clip_norm="2", training__epochs="5", decoder__separate_states="true")
    assert profile.decoder == notebook_decoder(lstm_units=64, separate_states=True)
    assert profile.training == notebook_training(epochs=5, clip_norm=2)


def test_the_recipe_that_is_set_replaces_the_profiles() -> None:
    assert demo().recipe == "notebook"
    profile = demo(recipe="strong")
    assert profile.decoder == DecoderConfig()
    assert (profile.training.steps_per_epoch, profile.training.cosine) == (50, True)


def test_a_section_replaced_as_a_whole_still_lies_on_the_recipe(tmp_path: Path) -> None:
    profile = mine(tmp_path, "recipe = 'notebook'\n[training]\nepochs = 3\n", training="{ batch_size = 7 }")
    assert profile.training == notebook_training(batch_size=7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training = 5", "training: Input should be a valid dictionary"),
        ("decoder = ['lstm']", "decoder: Input should be a valid dictionary"),
        ("recipe = 3", "recipe: Input should be 'strong' or 'notebook'"),
        ("recipe = { decoder = 1 }", "recipe: Input should be 'strong' or 'notebook'"),
        ("further_encoders = 'InceptionV3'", "further_encoders: Input should be a valid dictionary"),
        ("further_encoders = { name = 'InceptionV3' }", "further_encoders.name: Input should be a valid dictionary"),
        ("training = { self_critical = 3 }", "training.self_critical: Input should be a valid dictionary"),
        ("training = { self_critical = {} }", "training.self_critical.epochs: Field required"),
        ("training = { epochs = { first = 1 } }", "training.epochs: Input should be a valid integer"),
        ("decoder = { tie_embeddings = { words = true } }", "decoder.tie_embeddings: Input should be a valid boolean"),
    ],
)
def test_a_section_of_a_wrong_type_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        mine(tmp_path, text)
    assert f"  {message}" in str(caught.value)


@pytest.mark.parametrize("changes", [{"decoder__word_embedding": "100"}, {"decoder__output_projection": "100"}])
def test_tied_vectors_must_be_of_one_width(tmp_path: Path, changes: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="decoder: `tie_embeddings` needs the same `word_embedding` and"):
        mine(tmp_path, **changes)
    assert not mine(tmp_path, decoder__tie_embeddings="false", **changes).decoder.tie_embeddings
    both = mine(tmp_path, decoder__word_embedding="100", decoder__output_projection="100").decoder
    assert (both.tie_embeddings, both.word_embedding) == (True, 100)


def test_warming_up_without_falling_again_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="training: `warmup_fraction` is of the cosine schedule"):
        mine(tmp_path, training__cosine="false")
    assert not mine(tmp_path, training__cosine="false", training__warmup_fraction="0").training.cosine


def test_further_encoders_follow_the_first_in_the_order_of_their_names(tmp_path: Path) -> None:
    text = "".join(
        f'[further_encoders.{name}]\nname = "{encoder}"\nweights = "imagenet"\n'
        for name, encoder in (("second", "InceptionV3"), ("fourth", "ResNet50"), ("encoder", "VGG16"))
    )
    profile = mine(tmp_path, text, further_encoders__alone__name="ResNet101", further_encoders__alone__weights="a.h5")
    names = [encoder.name for encoder in profile.encoders]
    assert [encoder.name for encoder in mine(tmp_path).encoders] == names[:1]
    assert names == ["efficientnet_lite0", "ResNet101", "VGG16", "ResNet50", "InceptionV3"]
    assert profile.encoders[1].weights == "a.h5"
    assert Profile.model_validate_json(profile.model_dump_json()).encoders == profile.encoders


def test_an_override_reaches_a_further_encoder_of_the_file(tmp_path: Path) -> None:
    text = '[further_encoders.second]\nname = "InceptionV3"\nweights = "imagenet"\n'
    profile = mine(tmp_path, text, further_encoders__second__preprocessing="notebook")
    assert [encoder.preprocessing for encoder in profile.encoders] == ["antialias", "notebook"]


def test_a_profile_is_frozen() -> None:
    profile = demo()
    with pytest.raises(ValidationError, match="frozen"):
        profile.decoder.lstm_units = 5
    with pytest.raises(ValidationError, match="frozen"):
        profile.name = "x"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[dataset\n", "is not valid TOML: .*line 1"),
        (b"name = 'caf\xe9'", "cannot read the profile .*mine.toml"),
        (b"", "encoder: Field required"),
    ],
)
def test_unreadable_profile_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_profile(written(tmp_path, content), {})
    with pytest.raises(ConfigurationError, match=r"cannot read the profile .*nowhere\.toml"):
        load_profile(tmp_path / "nowhere.toml", {})


def test_a_single_source_needs_a_holdout(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="dataset: one source needs `holdout`"):
        load_profile(written(tmp_path, ONE_SOURCE.format(dataset="")), {})
    for share in ("0", "1"):
        with pytest.raises(ConfigurationError, match=r"dataset\.holdout: Input should be"):
            load_profile(written(tmp_path, ONE_SOURCE.format(dataset=f"holdout = {share}")), {})


def test_several_sources_are_the_splits() -> None:
    with pytest.raises(ConfigurationError, match="dataset: `holdout` divides a single source"):
        demo(dataset__holdout="0.1")
    with pytest.raises(ConfigurationError, match="dataset: no source is called val; there is train, dev"):
        demo(dataset__validation_split="val")


@pytest.mark.parametrize("sources", [1, 2])
def test_a_split_cannot_be_trained_and_validated_on(tmp_path: Path, sources: int) -> None:
    path = DEMO if sources == 2 else written(tmp_path, ONE_SOURCE.format(dataset="holdout = 0.5"))
    with pytest.raises(ConfigurationError, match="validation_split"):
        load_profile(path, {"dataset.validation_split": "train"})


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ('captions = "a.json"', "coco"),
        ('captions = "a.CSV"', "csv"),
        ('captions = "https://example.org/a.jsonl"', "jsonl"),
        ('captions = "results.token"', "flickr"),
        ('captions = "captions.zip"\nannotations = "sub/a.csv"', "csv"),
        ('captions = "captions.txt"\nformat = "csv"', "csv"),
        ('captions = "dataset_coco.json"\nformat = "karpathy"', "karpathy"),
    ],
)
def test_the_captions_files_name_tells_its_format(tmp_path: Path, source: str, told: str) -> None:
    text = ONE_SOURCE.format(dataset="holdout = 0.5").replace('captions = "all.json"\nannotations = ""', source)
    profile = load_profile(written(tmp_path, text), {})
    assert profile.dataset.sources["all"].format == told
    assert Profile.model_validate_json(profile.model_dump_json()) == profile


@pytest.mark.parametrize("captions", ["captions.txt", "captions.zip", "captions"])
def test_a_name_that_tells_no_format_is_named(tmp_path: Path, captions: str) -> None:
    text = ONE_SOURCE.format(dataset="holdout = 0.5").replace("all.json", captions)
    with pytest.raises(
        ConfigurationError, match=rf"dataset\.sources\.all: the name {captions} does not tell.*`format`"
    ):
        load_profile(written(tmp_path, text), {})


def test_something_else_than_the_sources_may_divide(tmp_path: Path) -> None:
    undivided = written(tmp_path, ONE_SOURCE.format(dataset=""))
    assert load_profile(undivided, {"dataset.split_file": "s.csv"}).dataset.split_file == "s.csv"
    load_profile(undivided, {"dataset.sources.all.format": "karpathy"})
    coco = load_profile(
        PROFILES / "coco2014.toml", {"dataset.split_file": "s.json", "dataset.validation_split": "test"}
    )
    assert set(coco.dataset.sources) == {"train", "val"}
    with pytest.raises(ConfigurationError, match="dataset: `split_file` divides the images; take out"):
        load_profile(undivided, {"dataset.split_file": "s.csv", "dataset.holdout": "0.5"})


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('mirrors = ["/mnt/coco"]', r"dataset\.mirrors"),
        (f'sha256 = {{ "all.zip" = "{"0" * 63}" }}', r"dataset\.sha256"),
        (f'sha256 = {{ "al.zip" = "{"0" * 64}" }}', r"sha256 names al\.zip, which no source uses"),
    ],
)
def test_mistakes_about_downloads_are_named(tmp_path: Path, lines: str, message: str) -> None:
    text = ONE_SOURCE.format(dataset=f"holdout = 0.5\n{lines}")
    with pytest.raises(ConfigurationError, match=message):
        load_profile(written(tmp_path, text), {})
