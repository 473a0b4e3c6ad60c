"""The door to DVC: data versions, pipelines, the lock."""

from mlp.adapters.data.contents import (
    cached_files,
    differences,
    directory_entries,
    metrics,
    plots,
    sources,
)
from mlp.adapters.data.errors import translated
from mlp.adapters.data.pipeline import Begun, Ended, count, plan, reproduce, stages
from mlp.adapters.data.project import init, locked, opened, root
from mlp.adapters.data.remotes import Remote, check_out_sources, remote, share_cache

__all__ = [
    "Begun",
    "Ended",
    "Remote",
    "cached_files",
    "check_out_sources",
    "count",
    "differences",
    "directory_entries",
    "init",
    "locked",
    "metrics",
    "opened",
    "plan",
    "plots",
    "remote",
    "reproduce",
    "root",
    "share_cache",
    "sources",
    "stages",
    "translated",
]
