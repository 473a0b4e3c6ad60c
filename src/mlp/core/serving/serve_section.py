"""The section `serve` of mlp.yaml, and what a serving process starts from."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from mlp.core.launch.targets_section import Quantity
from mlp.core.quantities import amount, seconds
from mlp.core.section import Section

_LEAST_MEMORY = "64Mi"  # an interpreter with nothing in it takes most of that


def _memory(quantity: str) -> str:
    if amount(quantity) < amount(_LEAST_MEMORY):
        raise ValueError(f"it should be at least {_LEAST_MEMORY}: a number alone means bytes")
    return quantity


def _log(place: str) -> str:
    scheme, remote, path = place.partition("://")
    if not place.strip() or (remote and not (scheme and path.strip("/"))):
        raise ValueError("it should be a folder, or an address such as s3://BUCKET/PATH")
    return place


def _origin(text: str) -> str:
    scheme, _, host = text.partition("://")
    if text != "*" and not (scheme in ("http", "https") and host and "/" not in host):
        raise ValueError("it should be an origin, as in https://app.example:8443, or '*'")
    return text


Origin = Annotated[str, AfterValidator(_origin)]
Seconds = Annotated[int, BeforeValidator(seconds)]
Memory = Annotated[Quantity, AfterValidator(_memory)]
Log = Annotated[str, AfterValidator(_log)]


class Serve(Section):
    """How a model is served."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    workers: Annotated[int, Field(ge=1)] = 1
    # The column, or the header X-Route-Key, whose value decides who is answered by which version.
    route_by: str | None = None
    challenger: Annotated[float, Field(ge=0, le=1)] = 0.0  # its share, until a command sets one
    shadow: bool = False  # the challenger predicts too, and the champion answers
    max_latency_ms: Annotated[float, Field(gt=0)] = 100.0  # of the challenger: then the champion
    timeout: Seconds = 60  # of a request
    max_request: Quantity = "16Mi"
    max_waiting: Annotated[int, Field(ge=1)] = 64  # requests in a worker; more are told to retry
    challenger_memory: Memory = "4Gi"  # more, and the challenger is taken out
    drain: Seconds = 30  # from SIGTERM on, for requests under way
    poll: Annotated[float, Field(gt=0)] = 0.25  # seconds between looks at registry and ledger
    token_env: str | None = None  # a variable with the token that requests have to bring
    cors: tuple[Origin, ...] = ()  # whose pages may ask from a browser; "*" for all
    log: Log | None = "predictions"  # a folder of the project, an absolute one, or s3://…
    log_features: bool = True
    log_probabilities: bool = True
    hash_keys: bool = False  # keep a digest of the user's key instead of the key
    rotate: Seconds = 300  # how old a journal of predictions grows before it becomes Parquet


class ServeSpec(Section):
    """What a serving process starts from; as JSON it goes into a file or a ConfigMap.

    `state` None means the variable MLP_STATE: an address with a password is not plain data.
    """

    model: str
    tracking_uri: str
    state: str | None
    cache: str  # a folder for the files of versions
    journal: str  # a local folder for predictions on their way into `serve.log`
    serve: Serve = Serve()
    labels: Mapping[str, str] = Field(default_factory=dict)
