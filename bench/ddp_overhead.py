"""DDP on two nodes through mlp against the same script under bare torchrun, in the same pods.

The stage's command, once in each of two pods, starts the script in turns: as mlp's gang has it
(`mlp.trainer`, a metric logged at each step, checkpoints, events delivered to a tracking server
meanwhile), and under a torchrun of its own with an environment that knows nothing of mlp
(`pl.Trainer` without a logger). A step sleeps as long as a GPU would compute, so that the pods'
shared processor is not what is measured. Told is the time per step from the 20th on. Prints one
JSON document.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import clusters
import turns
from clusters import Place

# 0.99 times the steps per second.
_LIMIT = 1 / 0.99
_STEPS_PY = """\
import os, sys, time
import torch, pytorch_lightning as pl

torch.set_num_threads(1)
seconds, count = float(sys.argv[1]), int(sys.argv[2])

class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(256, 256)
        self.ends = []

    def training_step(self, batch, _):
        time.sleep(seconds)
        loss = self.layer(batch).square().mean()
        self.log("loss", loss)
        return loss

    def on_train_batch_end(self, *_):
        self.ends.append(time.perf_counter())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

quiet = dict(max_epochs=1, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
if "MLP_STAGE" in os.environ:
    import mlp
    way, trainer = "mlp", mlp.trainer(**quiet)
else:
    way, trainer = "torchrun", pl.Trainer(
        **quiet, strategy="ddp", num_nodes=2, devices=1, logger=False, default_root_dir=sys.argv[3]
    )
model = Model()
data = torch.randn(count * 8 * 2, 256)
trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=8))
assert trainer.world_size == 2
if trainer.is_global_zero:
    each = (model.ends[-1] - model.ends[20]) / (len(model.ends) - 21)
    print(f"STEP {way} {each:.6f}", flush=True)
"""
_ALTERNATE_PY = """\
import os, subprocess, sys, tempfile

count, rank = int(sys.argv[1]), int(os.environ["RANK"])
host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
known = ("MLP_", "MLFLOW_", "TORCHELASTIC_", "RANK", "LOCAL_", "GROUP_", "ROLE_", "WORLD_SIZE",
         "MASTER_", "TORCH_")
bare = {k: v for k, v in os.environ.items() if not k.startswith(known)}
for turn in range(count):
    for way in ("mlp", "torchrun"):
        port += 1  # that of the turn before may not be free yet
        with tempfile.TemporaryDirectory() as folder:
            script = ["steps.py", *sys.argv[2:], folder]
            if way == "mlp":
                ours = {"MASTER_PORT": str(port), "MLP_CHECKPOINTS": f"{folder}/checkpoints"}
                subprocess.run([sys.executable, *script], env={**os.environ, **ours}, check=True)
                continue
            gang = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-id={port}",
                    f"--rdzv-endpoint={host}:{port}", f"--rdzv-conf=is_host={rank == 0}"]
            command = [sys.executable, "-m", "torch.distributed.run", *gang, *script]
            subprocess.run(command, env=bare, check=True)
"""


def measure(place: Place, count: int, step: float, steps: int, tracking_uri: str) -> dict[str, Any]:
    """Seconds per step, of both, in turns."""
    command = f"python alternate.py {count} {step} {steps}"
    directory = place.project(
        "ddp",
        {"train": {"cmd": command, "deps": ["alternate.py", "steps.py"]}},
        files={"alternate.py": _ALTERNATE_PY, "steps.py": _STEPS_PY},
        launch={"train": {"target": "gpu", "nodes": 2, "strategy": "ddp"}},
        tracking_uri=tracking_uri,
        # A limit of processor time would be what is measured.
        resources={"memory": "2Gi"},
    )
    lines = clusters.mlp(directory, "train", CI="true").stderr.splitlines()
    found: dict[str, list[float]] = {"mlp": [], "torchrun": []}
    for line in lines:
        _, said, rest = line.partition("STEP ")
        if said:
            way, seconds = rest.split()
            found[way].append(float(seconds))
            print(f"{way}: {float(seconds) * 1e3:.2f} ms per step", file=sys.stderr)
    if not all(len(seconds) == count for seconds in found.values()):
        raise SystemExit("\n".join(["not every turn has told its time:", *lines]))
    pairs = zip(found["mlp"], found["torchrun"], strict=True)
    return {
        "ms_per_step": {way: round(statistics.median(s) * 1e3, 3) for way, s in found.items()},
        "ratio": round(statistics.median(ours / bare for ours, bare in pairs), 4),
        "turns": {way: [round(s * 1e3, 3) for s in seconds] for way, seconds in found.items()},
    }


@contextmanager
def tracking(place: Place) -> Iterator[str]:
    """An MLflow server that the pods reach."""
    from tests.cluster import servers

    folder = place.folder / "mlflow"
    folder.mkdir()
    server = servers.MlflowServer(f"sqlite:///{folder}/mlflow.db", folder, servers.free_port())
    server.start()
    try:
        yield server.uri
    finally:
        server.stop()


def main() -> None:
    """Measure, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--step-ms", type=float, default=30.0)
    options = parser.parse_args()
    with clusters.place() as place, tracking(place) as uri:
        result = measure(place, options.turns, options.step_ms / 1e3, options.steps, uri)
    each = result["ms_per_step"]
    figure = turns.figure(
        "DDP on two nodes: time per step, against bare torchrun in the same pods",
        result["ratio"],
        at_most=round(_LIMIT, 4),
        note=f"{each['mlp']:.2f} ms and {each['torchrun']:.2f} ms",
    )
    print(json.dumps({"figures": [figure], **result}, indent=2))


if __name__ == "__main__":
    main()
