"""The model card: what a registered model is, what it was made from, how good it is, and what it must not do."""

from collections.abc import Mapping
from dataclasses import dataclass

from jinja2 import Environment, StrictUndefined

TEMPLATE = """\
# {{ name }}

Captions photographs in English: {{ encoders }} → one embedding → an LSTM decoder that knows {{ words }} words.
{{ size_mb }} MB{{ "" if bundled else ", without its encoder: it takes embeddings only" }}.

## Data

{% for what, value in data.items() -%}
- {{ what }}: {{ value }}
{% endfor %}
## Scores

Split `{{ split }}`, {{ images }} images, {{ tokenizer }} tokenizer; digest of images and references `{{ digest }}`.
1 is what papers print as 100.

| score | | with 95 % confidence (bootstrap over images) |
|---|---|---|
{% for metric, (low, high) in intervals.items() -%}
| {{ metric }} | {{ "%.3f" | format(metrics[metric]) }} | {{ "%.3f" | format(low) }} to {{ "%.3f" | format(high) }} |
{% endfor %}
CIDEr with the images shuffled: {{ "%.3f" | format(metrics.cider_shuffled) }}. Captions that no training image has:
{{ "%.0f" | format(100 * metrics.novel) }} %. `gallery.html` shows where it does well, and where poorly.

## Limits

It says what its training captions say: things, people and scenes of other kinds are called by the nearest name it
knows, with confidence. Colours, numbers and who does what are often wrong. It repeats what its training captions think
of people. Do not use it where a wrong caption does harm, and not to describe a photograph to someone who cannot see it
without saying that a machine did.

## Licence

{{ licence }}

## Use

    import mlflow, pandas
    model = mlflow.pyfunc.load_model("models:/{{ name }}@champion")
    model.predict(pandas.DataFrame({"image": [open("photo.jpg", "rb").read()]}), params={"search": "beam"})

Parameters: `search` (greedy, beam, sample), `beam`, `top_n`, `temperature`, `top_k`, `top_p`, `seed`, `max_length`.
A row has an `image` (the bytes of an image file, or base64 of them), an `embedding`, or, where the environment variable
CAPTIONING_IMAGE_ROOT names a folder, a `path` in it.
"""


@dataclass(frozen=True)
class CardFacts:
    """What a card says."""

    name: str
    encoders: str
    words: int
    bundled: bool
    """Whether the encoders are in the model."""
    bytes: int
    data: Mapping[str, str]
    split: str
    images: int
    tokenizer: str
    digest: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    licence: str


def render_card(facts: CardFacts) -> str:
    """The card as Markdown."""
    environment = Environment(autoescape=False, undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(TEMPLATE).render(
        **{
            **vars(facts),
            "size_mb": f"{facts.bytes / 1e6:.0f}",
            "words": f"{facts.words:,}",
            "images": f"{facts.images:,}",
        }
    )
