"""The model as others call it: rows of data/prepared in, without the label; probabilities out."""

from importlib.metadata import version
from typing import Any

import mlflow
import pandas as pd

from features import Encoding, encode
from network import Flights, LateNetwork
from prepare import KNOWN_BEFORE

INPUTS = KNOWN_BEFORE
# What goes with the model, so that it can be loaded where this project is not.
CODE = [f"src/{name}.py" for name in ("served", "features", "network", "prepare")]
PACKAGES = ("mlflow", "cloudpickle", "numpy", "pandas", "pyyaml", "torch", "pytorch-lightning")
REQUIREMENTS = [f"{name}=={version(name).partition('+')[0]}" for name in PACKAGES]


class LateFlights(mlflow.pyfunc.PythonModel):
    """Encodes flights as they were encoded for training, and predicts."""

    def __init__(self, network: LateNetwork, encoding: Encoding, threshold: float) -> None:
        self.network, self.encoding, self.threshold = network, encoding, threshold

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        flights = Flights(encode(model_input, self.encoding), self.encoding)
        probability = self.network.probabilities(flights)
        late = (probability >= self.threshold).astype("int64")
        return pd.DataFrame({"late_probability": probability, "late": late})
