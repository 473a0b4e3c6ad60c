"""Changing an alias: the intent in the ledger, the alias in MLflow, the outcome in the ledger."""

import dataclasses
import time

from mlp.adapters.state import Conflict
from mlp.adapters.tracking import registry
from mlp.core.ledger import CHALLENGER, CHAMPION, Action, Entry
from mlp.core.promotion import INTENT, OUTCOME, holders, pending, who_made
from mlp.flows.models.opened import Opened
from mlp.flows.models.reconcile import settle_locked, tag


def change(model: Opened, wanted: Entry) -> Entry:
    """Let `wanted.alias` mean `wanted.version` (nothing for None or ARCHIVED); returns the entry.

    `wanted` is the entry that tells of it, `wanted.previous` what the alias has to mean until now:
    a compare-and-swap under the model's lock. Raises Conflict, which says who was faster.
    """
    with model.state.locked(model.name):
        settle_locked(model)
        return change_locked(model, wanted)


def change_locked(model: Opened, wanted: Entry) -> Entry:
    """The same for whoever holds the lock and has settled the ledger."""
    alias = wanted.alias or CHAMPION
    target = None if wanted.action == Action.ARCHIVED else wanted.version
    intent = dataclasses.replace(
        wanted,
        action=Action.INTENDED,
        evidence={**wanted.evidence, OUTCOME: str(wanted.action)},
    )

    def overtaken(entries: list[Entry]) -> bool:
        return holders(entries).get(alias) != wanted.previous or bool(pending(entries))

    kept = model.state.append_once(intent, unless=overtaken)
    if kept is None:
        raise lost(model, alias, wanted.previous)
    if target is None:
        registry.delete_alias(model.uri, model.name, alias)
    else:
        registry.set_alias(model.uri, model.name, alias, target)
    done = dataclasses.replace(wanted, evidence={**wanted.evidence, INTENT: kept.number})
    aliases = model.aliases()
    if alias == CHAMPION and target is not None and aliases.get(CHALLENGER) == target:
        registry.delete_alias(model.uri, model.name, CHALLENGER)
        aliases.pop(CHALLENGER)
    made = model.state.append_next(done)
    entries = model.entries()
    for version in {wanted.version, wanted.previous} - {None}:
        tag(model, str(version), aliases, entries)
    return made


def lost(model: Opened, alias: str, expected: str | None) -> Conflict:
    """What somebody is told who was not the first."""
    entries = model.entries()
    now = holders(entries).get(alias)
    winner = who_made(entries, alias, now)
    by = f" since {_when(winner.at)}, by {winner.actor} (entry {winner.number})" if winner else ""
    is_now = f"version {now}" if now else "no version"
    was = f"version {expected}" if expected else "none"
    return Conflict(
        f"the {alias} of {model.name!r} is {is_now}{by}, and no longer {was}: nothing was changed",
        fix="`mlp models history` shows why; then decide again",
    )


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
