"""A model behind LitServe as its documentation shows it, for `serving.py`.

`python server_litserve.py MODEL PORT`, in the environment of the peer litserve.
"""

import pickle
import sys
from pathlib import Path

import litserve
import numpy as np


class Logistic(litserve.LitAPI):
    """Rows in, classes out."""

    def setup(self, device):
        """Load the model."""
        self.model = pickle.loads(Path(sys.argv[1]).read_bytes())

    def decode_request(self, request):
        """The rows of the request."""
        return np.array(request["dataframe_split"]["data"], dtype=np.float64)

    def predict(self, x):
        """Their classes."""
        return self.model.predict(x)

    def encode_response(self, output):
        """The answer."""
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(
        Logistic(api_path="/invocations"), accelerator="cpu", workers_per_device=1
    )
    server.run(port=int(sys.argv[2]), log_level="warning", generate_client_file=False)
