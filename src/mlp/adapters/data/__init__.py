"""The door to DVC: data versions, pipelines, the lock."""

from mlp.adapters.data.contents import (
    cached_files,
    differences,
    directory_entries,
    metrics,
    plots,
    sources,
)
from mlp.adapters.data.dvc_errors import translated
from mlp.adapters.data.dvc_pipeline import Begun, Ended, count, plan, reproduce, stages
from mlp.adapters.data.dvc_project import adopt, init, locked, opened, root
from mlp.adapters.data.packages import is_installed, package_for
from mlp.adapters.data.remotes import (
    DefaultRemote,
    NewRemote,
    Remote,
    check_out_sources,
    default_remote,
    new_remote,
    remote,
    share_cache,
    write_remote,
)
from mlp.adapters.data.storage import Storage, remote_settings, storage, storage_of
from mlp.adapters.data.transfer import (
    Inputs,
    Made,
    commit,
    input_states,
    inputs,
    pull,
    push,
    receive,
    working_directory,
)

__all__ = [
    "Begun",
    "DefaultRemote",
    "Ended",
    "Inputs",
    "Made",
    "NewRemote",
    "Remote",
    "Storage",
    "adopt",
    "cached_files",
    "check_out_sources",
    "commit",
    "count",
    "default_remote",
    "differences",
    "directory_entries",
    "init",
    "input_states",
    "inputs",
    "is_installed",
    "locked",
    "metrics",
    "new_remote",
    "opened",
    "package_for",
    "plan",
    "plots",
    "pull",
    "push",
    "receive",
    "remote",
    "remote_settings",
    "reproduce",
    "root",
    "share_cache",
    "sources",
    "stages",
    "storage",
    "storage_of",
    "translated",
    "working_directory",
    "write_remote",
]
