"""`mlp.yaml` as typed, frozen data. Every mistake in it is found at once, with its place."""

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Annotated, Any, get_args

from pydantic import BaseModel, Field, ValidationError

from mlp.core.ab.ab_section import Ab
from mlp.core.errors import ConfigurationError
from mlp.core.launch.launch_section import LaunchSection
from mlp.core.launch.targets_section import KubernetesTarget
from mlp.core.models.model_section import Model
from mlp.core.nearest import did_you_mean
from mlp.core.section import Section
from mlp.core.serving.deploy_section import Deploy
from mlp.core.serving.serve_section import Serve
from mlp.core.yaml_positions import Document, Path

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
DEFAULT_STATE = "sqlite:///.mlp/state.db"


class Tracking(Section):
    """Where runs are recorded. A SQLite file is meant relative to the project."""

    uri: str | None = None
    experiment: str | None = None


class Config(Section):
    """All of `mlp.yaml`, one environment merged in."""

    project: Annotated[str, Field(min_length=1)]
    tracking: Tracking = Tracking()
    state: str | None = None  # a SQLite file or PostgreSQL: ledger of models; also: MLP_STATE
    model: Model | None = None
    serve: Serve = Serve()
    ab: Ab = Ab()
    deploy: Deploy = Deploy()
    launch: Mapping[str, LaunchSection] = Field(default_factory=dict)
    targets: Mapping[str, KubernetesTarget] = Field(default_factory=dict)

    @property
    def experiment(self) -> str:
        """The MLflow experiment: the project's name where none is given."""
        return self.tracking.experiment or self.project


class _File(Config):
    envs: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)


def parse(
    text: str, name: str = "mlp.yaml", env: str | None = None, settings: Sequence[str] = ()
) -> Config:
    """The configuration in `text`, with `envs.ENV` and then `settings` ("a.b=1") merged over it.

    Raises ConfigurationError listing every mistake, of every environment, with file and line.
    """
    try:
        return _parsed(Document(text, name), name, env, settings)
    except RecursionError as e:
        raise _refused([f"{name}: a part of it contains itself (an alias)"]) from e


def _parsed(document: Document, name: str, env: str | None, settings: Sequence[str]) -> Config:
    mistakes = [*document.mistakes]
    data = document.data if isinstance(document.data, dict) else {}
    if not isinstance(document.data, dict) and not mistakes:
        mistakes.append(f"{name}:1: the file is to be a mapping that begins with `project: NAME`")
    mistakes += _mistakes(document, data)
    if mistakes:
        raise _refused(mistakes)
    if env is not None and env not in data.get("envs", {}):
        have = ", ".join(sorted(data.get("envs", {}))) or "none"
        raise ConfigurationError(
            f"environment {env!r} is not in {name} (have: {have})"
            f"{did_you_mean(env, data.get('envs', {}))}",
            fix=f"add it under `envs:` in {name}, or leave --env out",
        )
    merged = merge(
        {k: v for k, v in data.items() if k != "envs"}, data.get("envs", {}).get(env, {})
    )
    for setting in settings:
        merged = merge(merged, _setting(setting))
    try:
        return Config.model_validate(merged)
    except ValidationError as e:
        raise _refused([_message(Config, error, "--config") for error in e.errors()]) from e


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`: mappings key by key, anything else replaced."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _setting(setting: str) -> dict[str, Any]:
    import yaml

    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise ConfigurationError(f"--config {setting!r} is not KEY=VALUE", fix="--config a.b=1")
    try:
        value: Any = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise ConfigurationError(f"--config {key}: the value is not YAML", cause=str(e)) from e
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def _mistakes(document: Document, data: Mapping[str, Any]) -> list[str]:
    """Of the file itself, then of each environment what only appears with it."""
    found = _validate(document, data, ())
    base = {k: v for k, v in data.items() if k != "envs"}
    envs = data.get("envs")
    for name, over in (envs if isinstance(envs, dict) else {}).items():
        if isinstance(over, dict):
            with_env = _validate(document, merge(base, over), ("envs", name))
            found += [mistake for mistake in with_env if mistake not in found]
    return found


def _validate(document: Document, data: Mapping[str, Any], prefix: Path) -> list[str]:
    try:
        _File.model_validate(data)
    except ValidationError as e:
        messages = []
        for error in e.errors():
            path = tuple(error["loc"])
            inner = prefix + path
            here = inner if prefix and document.has(inner) else path
            if prefix and here == path and document.has(path):
                continue  # a mistake of the base, told once
            on_key = error["type"] == "extra_forbidden"
            messages.append(_message(_File, error, document.place(here, key=on_key)))
        return messages
    return []


def _message(model: type[BaseModel], error: Any, place: str) -> str:
    """One mistake in words: place, the key or value, what is allowed, the nearest right one."""
    path = tuple(error["loc"])
    key = ".".join(str(part) for part in path)
    if error["type"] == "extra_forbidden":
        allowed = _keys(model, path[:-1])
        return (
            f"{place}: unknown key {key!r} (have: {', '.join(allowed)})"
            f"{did_you_mean(str(path[-1]), allowed)}"
        )
    if error["type"] == "missing":
        return f"{place}: key {key!r} is missing"
    value = error["input"]
    if error["type"] == "invalid_key":
        return f"{place}: YAML reads a key here as {value!r}, which is not text: put it in quotes"
    if error["type"] == "literal_error":
        allowed = _literals(str(error["ctx"]["expected"]))
        near = did_you_mean(str(value), allowed)
        return f"{place}: {key}: {value!r} is not one of {', '.join(allowed)}{near}"
    reason = str(error["msg"]).replace("Input should", "it should")
    return f"{place}: {key}: {value!r} does not fit: {reason}"


def _literals(expected: str) -> list[str]:
    return [part.strip(" '") for part in expected.replace(" or ", ",").split(",")]


def _keys(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that the section at `path` knows."""
    section: Any = model
    for part in path:
        if _is_section(section):
            section = _without_none(section.model_fields[str(part)].annotation)
        else:  # `Mapping[str, X]`: the part is a name, and what it names is of the last type
            section = get_args(section)[-1]
    return list(section.model_fields)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _without_none(annotation: Any) -> Any:
    """`Model` of `Model | None`."""
    types = get_args(annotation)
    return types[0] if len(types) == 2 and types[1] is NoneType else annotation


def _refused(mistakes: Sequence[str]) -> ConfigurationError:
    count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    return ConfigurationError(
        f"mlp.yaml has {count}", cause="\n".join(mistakes), fix="correct the lines above"
    )
