"""A model that answers scoring requests as `mlflow models serve` would, and faster."""

import contextlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.adapters.scoring import fast_answers, mlflow_server, scoring_requests, signature
from mlp.adapters.scoring.answers import Refusal, ScoringAnswer
from mlp.adapters.scoring.scoring_requests import ScoringRequest
from mlp.core.serving.scoring_formats import JSON

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel


class Scorer:
    """A loaded model. `probabilities`: whether answers have them where the model tells them.

    `quick` says whether it answers usual requests without MLflow's server.
    """

    def __init__(self, model: "PyFuncModel", path: Path, *, probabilities: bool = False) -> None:
        self.model = model
        self.path = path
        self.probabilities = probabilities
        self._fast = fast_answers.prepare(model, probabilities=probabilities)
        if self._fast is not None and not self._proven():
            self._fast = None
        self.quick = self._fast is not None

    @classmethod
    def load(cls, path: Path, *, probabilities: bool = False) -> "Scorer":
        """The model in a directory in MLflow's format; what loading it raises is not translated."""
        return cls(mlflow_server.load(path), path, probabilities=probabilities)

    def read(self, body: bytes, content_type: str | None) -> ScoringRequest:
        """A request from its body; raises Refusal where no model could answer it."""
        return scoring_requests.read(body, content_type)

    def answer(self, request: ScoringRequest) -> ScoringAnswer:
        """The predictions; raises Refusal where MLflow's server would answer anything but a 200."""
        found = self.quickly(request)
        return self.exactly(request) if found is None else found

    @cached_property
    def example(self) -> tuple[bytes, str] | None:
        """The input example stored with the model, as body and content type of a request."""
        text = self.model.metadata.get_serving_input(str(self.path))
        return None if text is None else (text.encode(), JSON)

    @cached_property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the body of a JSON request to this model, for OpenAPI."""
        return signature.request_schema(self.model.metadata)

    def quickly(self, request: ScoringRequest) -> ScoringAnswer | None:
        """The predictions by the fast way, None where it does not know the request."""
        if self._fast is None or request.document is None:
            return None
        # Where the model fails, it fails in MLflow's server once more, which says how.
        with contextlib.suppress(Exception):
            return self._fast(request.some())
        return None

    def exactly(self, request: ScoringRequest) -> ScoringAnswer:
        """The predictions as MLflow's own server makes them. Raises Refusal."""
        body = request.exact()
        content_type = JSON if isinstance(body, dict) else request.content_type
        return mlflow_server.answer(body, content_type, self.model)

    def _proven(self) -> bool:
        """Whether the stored example, if it is answered, is answered the same in both ways."""
        if self.example is None:
            return True
        try:
            request = self.read(*self.example)
            quick, exact = self.quickly(request), self.exactly(request)
        except Refusal:
            return True
        return quick is None or quick.body == exact.body
