"""Large libraries, imported once by the process that commands and victims are forked from: seconds less for each.

Prefect is not among them: it reads its settings when it is imported.
"""

import importlib
import os
import sys

vars(sys.modules["__main__"]).setdefault("__file__", __file__)  # as in conftest.py
# What `flows.settings` sets before it lets these be imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")

for name in (
    *("tensorflow", "keras", "great_expectations", "httpx", "psutil"),
    *("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"),
    *("components.encoder.extract", "components.registry.promotion"),
):
    importlib.import_module(name)
