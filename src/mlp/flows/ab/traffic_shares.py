"""Traffic shares: shows which version serves which share of the users, and sets them."""

from mlp.core.ab.traffic import Traffic, traffic
from mlp.core.errors import ConfigurationError, UsageError
from mlp.core.models.ledger import CHALLENGER, CHAMPION, Action, LedgerEntry
from mlp.flows.models.opened_model import Opened, actor, opened
from mlp.flows.models.reconcile import settle
from mlp.flows.project import Project


def current(project: Project) -> Traffic:
    """What holds now. What happened without the ledger is written into it first."""
    with opened(project) as model:
        settle(model)
        return _traffic(project, model)


def set_share(
    project: Project, share: float, shadow: bool = False, reason: str = ""
) -> LedgerEntry:
    """Give the challenger a share of the keys (0 to 1), from now on; returns the ledger's entry.

    Servers follow within seconds, without a restart. Raises UsageError for another share and
    ConfigurationError where there is no challenger.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"a share is a number from 0 to 1, not {share:g}")
    with opened(project) as model:
        settle(model)
        aliases = model.aliases()
        challenger = aliases.get(CHALLENGER)
        if challenger is None or challenger == aliases.get(CHAMPION):
            raise ConfigurationError(
                f"model {model.name!r} has no challenger that could be given a share",
                fix="mlp models promote VERSION --to challenger",
            )
        before = _traffic(project, model)
        wanted = LedgerEntry(
            model=model.name,
            action=Action.SHARED,
            version=challenger,
            actor=actor(),
            reason=reason,
            evidence={
                "share": share,
                "shadow": shadow,
                "before": {"share": before.share, "shadow": before.shadow},
            },
        )
        return model.state.append_next(wanted)


def _traffic(project: Project, model: Opened) -> Traffic:
    serve = project.config.serve
    return traffic(model.aliases(), model.entries(), serve.challenger, serve.shadow)
