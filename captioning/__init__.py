"""Image captioning from Python: caption photographs with a registered model, and run the line stage by stage.

    import captioning

    captioner = captioning.load_captioner()  # the champion
    captioner.caption("photos/", beam=5).table()

The names below are stable. TensorFlow, MLflow and Prefect are imported when they are used.
"""

from captioning.captioner import PhotoCaptioner, load_captioner
from captioning.pipeline import Pipeline
from captioning.results import Embeddings, Evaluation, Result, Results, Training
from components.decoder.caption import Caption
from components.errors import CaptioningError

__all__ = [
    "Caption",
    "CaptioningError",
    "Embeddings",
    "Evaluation",
    "PhotoCaptioner",
    "Pipeline",
    "Result",
    "Results",
    "Training",
    "load_captioner",
]
