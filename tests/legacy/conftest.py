import os
import warnings

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest


@pytest.fixture(scope="session")
def keras():
    """Real Keras 3 on the torch backend, the independent reference."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("keras", reason="Keras, the independent reference, is not installed")
    if module.backend.backend() != "torch":
        pytest.skip(f"Keras runs on {module.backend.backend()}, not on torch")
    return module
