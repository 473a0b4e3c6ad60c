"""A project with models in a real MLflow store, made without running a pipeline for each."""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient

from mlp.adapters.state import StateDatabase, open_state
from mlp.core.models.ledger import LedgerEntry
from mlp.core.runs.pipeline import DataItem, StageState
from mlp.core.runs.recorded_run import STAGES, Tag
from tests.conftest import Done, called

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DATA = "d41d8cd98f00b204e9800998ecf8427e"
COLUMNS = ("a", "b")


def save(folder: Path, flip: bool = False, columns: Sequence[str] = COLUMNS, **more: Any) -> Path:
    """A logistic regression on two columns as MLflow saves it; `flip`: one that is always wrong."""
    import mlflow.sklearn
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression

    frame = pd.DataFrame([(i % 5 - 2.0, i % 7 - 3.0) for i in range(70)], columns=list(COLUMNS))
    answers = (frame.a + frame.b > 0).astype(int)
    frame = frame.rename(columns=dict(zip(COLUMNS, columns, strict=True)))
    model = LogisticRegression().fit(frame, 1 - answers if flip else answers)
    arguments = {
        "signature": infer_signature(frame, model.predict(frame)),
        "input_example": frame.head(2),
        "pip_requirements": ["mlflow", "scikit-learn"],
    } | more
    mlflow.sklearn.save_model(
        model, str(folder), **{name: v for name, v in arguments.items() if v is not None}
    )
    return folder


@dataclass
class Store:
    """The project in `root`, whose model is called `model`; another model is another history."""

    root: Path
    model: str
    asked: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.root}/mlflow.db"

    @property
    def state_uri(self) -> str:
        return os.environ.get("MLP_STATE") or f"sqlite:///{self.root}/.mlp/state.db"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def named(self, model: str) -> "Store":
        return dataclasses.replace(self, model=model)

    def configure(self, **model: Any) -> None:
        """Let the section `model` of mlp.yaml say this."""
        document = {"project": "demo", "model": {"name": self.model, **model}}
        (self.root / "mlp.yaml").write_text(yaml.safe_dump(document))

    @property
    def settings(self) -> list[str]:
        """What is laid over mlp.yaml: the model's name, and the gates that are asked."""
        chosen = [f"model.gates.{alias}={list(names)}" for alias, names in self.asked.items()]
        return [f"model.name={self.model}", *chosen]

    def ask(self, **gates: Sequence[str]) -> None:
        """Choose the gates before each alias, by its name: those that a test is about."""
        self.asked = gates

    def run(
        self,
        *models: Path,
        metrics: Mapping[str, float] = {},
        tags: Mapping[str, str] = {},
        data: str = DATA,
        stages: bool = True,
        cached_from: str = "",
        status: str = "FINISHED",
    ) -> str:
        """A pipeline run that has logged the models in these folders; its id.

        With `cached_from` its stage was unchanged since that pipeline run.
        """
        client = self.client
        experiment = client.get_experiment_by_name("demo")
        where = (
            experiment.experiment_id
            if experiment
            else client.create_experiment("demo", str(self.root / "mlruns"))
        )
        base = {Tag.KIND: "pipeline", Tag.EXPERIMENT: "demo", Tag.COMMIT: COMMIT, **tags}
        run = client.create_run(where, tags={k: v for k, v in base.items() if v}).info.run_id
        client.set_tag(run, Tag.RUN_ID, run)
        client.log_param(run, "C", "1.0")
        of_stage = {Tag.KIND: "stage", Tag.STAGE: "train", "mlflow.parentRunId": run}
        if cached_from:
            [made_by] = client.search_runs([where], f"tags.`mlflow.parentRunId` = '{cached_from}'")
            of_stage[Tag.CACHED_FROM] = made_by.info.run_id
        stage = client.create_run(where, tags=of_stage).info.run_id
        for name, value in metrics.items():
            client.log_metric(stage, name, value)
        if stages:
            deps = (DataItem("train.py", "0" * 32), DataItem("data.csv", data))
            state = StageState("train", ("python train.py",), deps, (), {})
            client.log_text(run, json.dumps([dataclasses.asdict(state)]), STAGES)
        for number, folder in enumerate(models):
            name = "model" if len(models) == 1 else f"model-{number}"
            made = client.create_logged_model(where, name=name, source_run_id=stage)
            client.log_model_artifacts(made.model_id, str(folder))
            client.finalize_logged_model(made.model_id, "READY")
        for each in (stage, run):
            client.set_terminated(each, status)
        return run

    def register(self, folder: Path, **more: Any) -> str:
        """A run with that model, registered; the number of its version."""
        done = self.mlp("register", self.run(folder, **more), "--json")
        assert done.code == 0, done.err
        return str(done.document["version"])

    def mlp(self, *arguments: str) -> Done:
        """`mlp models ARGUMENTS` in this process and the project's folder."""
        given = [part for setting in self.settings for part in ("--config", setting)]
        return called(self.root, "models", *arguments, *given)

    def ok(self, *arguments: str) -> Any:
        """The JSON of a command that succeeds."""
        done = self.mlp(*arguments, "--json")
        assert done.code == 0, done.err
        return done.document

    def champion_by_hand(self, version: str, alias: str = "champion") -> None:
        """What somebody does in MLflow's pages."""
        self.client.set_registered_model_alias(self.model, alias, version)

    def aliases(self) -> dict[str, str]:
        found = self.client.get_registered_model(self.model).aliases
        return {alias: str(version) for alias, version in found.items()}

    @contextlib.contextmanager
    def state(self) -> Any:
        state: StateDatabase = open_state(self.state_uri)
        try:
            yield state
        finally:
            state.close()

    def entries(self) -> list[LedgerEntry]:
        with self.state() as state:
            return list(state.entries(self.model))

    def files(self, version: str) -> Path:
        """Where the store keeps the files of a version."""
        return Path(self.client.get_model_version_download_uri(self.model, version))


def make(shared: Path, root: Path) -> Store:
    """An empty project with an empty store."""
    root.mkdir(parents=True)
    shutil.copyfile(shared / "mlflow.db", root / "mlflow.db")
    store = Store(root, "demo")
    store.configure()
    return store
