"""The first container of a pod: brings code and data, so that the command finds its workspace.

`python -m mlp.runtime.launch.prepare`; the job is in the environment. Ends with 0, with EXIT_FAILED
where trying again is pointless, else with EXIT_LOST.
"""

import json
import os
import sys
from pathlib import Path

from mlp.adapters import bundle, data
from mlp.core.errors import MlpError, RemoteError, from_os_error
from mlp.core.launch import job_spec as jobs
from mlp.core.launch.job_spec import JobSpec
from mlp.core.runs.run_header import RunHeader
from mlp.runtime.launch import pod


def main() -> int:
    """Prepare the pod's workspace; returns the exit code."""
    spec = pod.spec()
    phase = "bundle"
    try:
        storage = data.storage_of(spec.remote)
        failed = f"{pod.folder(spec)}/{jobs.FAILED}"
        failure = pod.patiently(spec, lambda: storage.read(failed))
        if failure is not None:  # another pod's last word
            pod.report(**json.loads(failure))
            return jobs.EXIT_FAILED
        archive = Path(jobs.POD_ROOT) / "bundle.tar.gz"
        pod.patiently(spec, lambda: storage.get(jobs.bundle_path(spec.bundle), archive))
        bundle.unpack(archive, Path(jobs.POD_CODE), spec.bundle)
        archive.unlink()
        phase = "inputs"
        root = Path(jobs.POD_CODE) / spec.root
        data.adopt(root, spec.remote)
        pod.patiently(spec, lambda: data.pull(root, spec.inputs))
        _write_header(spec)
    except (MlpError, OSError) as e:
        known = from_os_error(e) if isinstance(e, OSError) else e
        pod.report(phase, known.one_line())
        return jobs.EXIT_LOST if isinstance(known, RemoteError) else jobs.EXIT_FAILED
    return 0


def _write_header(spec: JobSpec) -> None:
    """What the recorder reads, as `mlp run` writes it for a run of its own."""
    layout = pod.run_layout(spec)
    layout.events.mkdir(parents=True, exist_ok=True)
    header = RunHeader(spec.run_id, spec.experiment, spec.tracking_uri, joins=True)
    layout.header.write_text(header.to_json(), encoding="utf-8")


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
