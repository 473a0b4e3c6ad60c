"""Changing an alias: the intent in the ledger, the alias in MLflow, the outcome in the ledger."""

import dataclasses
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mlp.adapters.state import Conflict
from mlp.adapters.tracking import registry
from mlp.core.errors import GateRefused, MlpError, from_words, words
from mlp.core.models.ledger import CHALLENGER, CHAMPION, Action, LedgerEntry
from mlp.core.models.standing import (
    AGAINST,
    INTENT,
    OUTCOME,
    SEEN,
    holders,
    pending,
    taken_out,
    who_made,
)
from mlp.flows.models.opened_model import Opened
from mlp.flows.models.reconcile import settle_locked, tag


def change(model: Opened, wanted: LedgerEntry) -> LedgerEntry:
    """Let `wanted.alias` mean `wanted.version` (nothing for None or ARCHIVED); returns the entry.

    `wanted` is the entry that tells of it, `wanted.previous` what the alias has to mean until now:
    a compare-and-swap under the model's lock. Raises Conflict, which says who was faster, and
    GateRefused where servers took the version out since it was decided to promote it.
    """
    with model.state.locked(model.name):
        settle_locked(model)
        return change_locked(model, wanted)


def change_locked(model: Opened, wanted: LedgerEntry) -> LedgerEntry:
    """The same for whoever holds the lock and has settled the ledger."""
    alias = wanted.alias or CHAMPION
    target = None if wanted.action == Action.ARCHIVED else wanted.version
    intent = dataclasses.replace(
        wanted,
        action=Action.INTENDED,
        evidence={**wanted.evidence, OUTCOME: str(wanted.action)},
    )

    expected = {alias: wanted.previous}
    if AGAINST in wanted.evidence:
        expected[CHAMPION] = wanted.evidence[AGAINST]

    def overtaken(entries: list[LedgerEntry]) -> bool:
        return bool(_changed(entries, expected) or pending(entries) or _out(entries, wanted))

    kept = model.state.append_once(intent, unless=overtaken)
    if kept is None:
        entries = model.entries()
        if (out := _out(entries, wanted)) is not None:
            raise _taken_out(out)
        other = next(iter(_changed(entries, expected)), alias)
        raise lost(model, other, expected[other])
    if target is None:
        registry.delete_alias(model.uri, model.name, alias)
    else:
        registry.set_alias(model.uri, model.name, alias, target)
    done = dataclasses.replace(wanted, evidence={**wanted.evidence, INTENT: kept.number})
    with _after_the_alias(model, alias, target):
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


def _out(entries: list[LedgerEntry], wanted: LedgerEntry) -> LedgerEntry | None:
    """By which entry the version to be promoted was taken out since that was decided."""
    if SEEN not in wanted.evidence:
        return None
    return taken_out(entries, wanted.version, wanted.evidence[SEEN])


def _taken_out(out: LedgerEntry) -> GateRefused:
    return GateRefused(
        f"version {out.version} was taken out while its gates ran (entry {out.number}): "
        f"{out.reason or 'no reason was given'}: nothing was changed",
        fix="`mlp models history` shows why; then decide again",
    )


def _changed(entries: list[LedgerEntry], expected: Mapping[str, str | None]) -> list[str]:
    """The aliases that do not mean what is expected, by the ledger."""
    held = holders(entries)
    return [alias for alias, version in expected.items() if held.get(alias) != version]


@contextmanager
def _after_the_alias(model: Opened, alias: str, target: str | None) -> Iterator[None]:
    """What fails in the block leaves the alias changed, and its error says so."""
    try:
        yield
    except MlpError as e:
        is_now = f"version {target}" if target else "no version"
        message = (
            f"{e.message}; the alias has changed: the {alias} of {model.name!r} is {is_now} now,"
            " and the next command writes it down"
        )
        raise from_words({**words(e), "message": message}) from e


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
