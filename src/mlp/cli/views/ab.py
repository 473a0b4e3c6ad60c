"""How a verdict and the traffic look to people."""

import time
from collections.abc import Sequence
from datetime import datetime

from mlp.cli import render
from mlp.core.ab.exposure import Period
from mlp.core.ab.traffic import percent
from mlp.core.ab.verdict import Verdict
from mlp.core.errors import UsageError
from mlp.core.models.ledger import LedgerEntry
from mlp.core.quantities import seconds
from mlp.flows.ab.judgement import ABStatus


def moment(text: str) -> float:
    """A time, or how long ago, in seconds since the epoch. Raises UsageError for anything else."""
    try:
        return time.time() - seconds(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as e:
        raise UsageError(
            f"--since {text!r} is not a time", fix="--since 2026-11-25T08:00, or --since 7d"
        ) from e


def verdict(found: Verdict) -> str:
    """The outcome first, then what it rests on."""
    parts = [f"{found.outcome}: {found.reason}", _needs(found), "", _arms(found), "", _tests(found)]
    ratio = found.sample_ratio
    if ratio is not None:
        state = "NOT AS CONFIGURED" if ratio.suspect else "as configured"
        parts += [
            "",
            f"split: {state}: {ratio.observed} of {ratio.users} users in the challenger's arm, "
            f"{ratio.expected:.1f} expected (p = {ratio.p:.3g}; at any look "
            f"{ratio.p_sequential:.3g})",
        ]
    if found.guards:
        rows = [
            (
                guard.name,
                guard.champion,
                guard.challenger,
                guard.allowed,
                f"{guard.p:.3g}",
                guard.state,
            )
            for guard in found.guards
        ]
        headers = ("guard", "champion", "challenger", "allowed", "p", "state")
        parts += ["", render.table(headers, rows)]
    if found.since is not None and found.until is not None:
        parts += [
            "",
            f"{found.mode} of {render.moment(found.since)} to {render.moment(found.until)}",
        ]
    parts += [f"note: {note}" for note in found.notes]
    return "\n".join(part for i, part in enumerate(parts) if part or i != 1)


def _needs(found: Verdict) -> str:
    needs = found.needs
    if needs is None:
        return ""
    if needs.champion is None or needs.challenger is None:
        return "needs: no number of samples would show so small a difference; state ab.effect"
    effect = "" if needs.effect is None else f" to show {needs.effect:.4g} ({needs.basis})"
    return (
        f"needs: about {needs.champion} more labelled rows of the champion and "
        f"{needs.challenger} of the challenger{effect}"
    )


def _arms(found: Verdict) -> str:
    rows = [
        (
            name,
            arm.version,
            arm.requests,
            arm.users,
            arm.labelled,
            arm.value,
            _interval(arm.low, arm.high),
        )
        for name, arm in (("champion", found.champion), ("challenger", found.challenger))
    ]
    level = f"{1 - found.alpha:.0%} interval"
    headers = ("arm", "version", "requests", "users", "labelled", found.metric, level)
    return render.table(headers, rows)


def _tests(found: Verdict) -> str:
    rows = [
        (name, test.difference, _interval(test.low, test.high), f"{test.p:.3g}", test.method)
        for name, test in (("at any look", found.sequential), ("at one look", found.fixed))
    ]
    return render.table(("valid", "difference", "interval", "p", "method"), rows)


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.4g} to {high:.4g}"


def status(found: ABStatus) -> str:
    """Who answers, the shares, the counts, and the ledger's end."""
    now = found.traffic
    if now.challenger is None:
        who = f"version {now.champion} answers everybody" if now.champion else "nobody answers"
    elif now.shadow:
        does = f"predicts beside it for {percent(now.share)} of the users"
        who = f"version {now.champion} answers, and version {now.challenger} {does}"
    else:
        share = percent(now.share)
        who = f"version {now.champion} answers, and version {now.challenger} {share} of the users"
    parts = [f"{found.model}: {who}"]
    if found.taken_out is not None:
        parts.append(f"version {now.challenger} was taken out: {found.taken_out}")
    if found.history:
        shares = [_period(period) for period in found.history]
        parts += ["", render.table(("from", "to", "share", "shadow"), shares)]
    if found.counted:
        rows = [(c.version, c.route, c.requests, c.users, c.labelled) for c in found.counted]
        headers = ("version", "route", "requests", "users", "labelled rows")
        parts += ["", render.table(headers, rows)]
    if found.entries:
        parts += ["", _ledger(found.entries)]
    return "\n".join(parts)


def shared(entry: LedgerEntry) -> str:
    """What the ledger says now."""
    share, shadow = float(entry.evidence["share"]), bool(entry.evidence["shadow"])
    does = "predicts beside the champion for" if shadow else "answers"
    return f"version {entry.version} {does} {percent(share)} of the users (entry {entry.number})"


def _period(period: Period) -> tuple[str, str, float, str]:
    end = "now" if period.end is None else render.moment(period.end)
    return (
        render.moment(period.start) if period.start else "the beginning",
        end,
        period.traffic.share,
        "yes" if period.traffic.shadow else "",
    )


def _ledger(entries: Sequence[LedgerEntry]) -> str:
    rows = [
        (
            entry.number,
            render.moment(entry.at),
            entry.action,
            entry.version,
            entry.alias,
            entry.actor,
            entry.reason,
        )
        for entry in entries
    ]
    return render.table(("entry", "at", "action", "version", "alias", "by", "why"), rows)
