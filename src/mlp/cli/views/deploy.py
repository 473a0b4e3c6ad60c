"""How a deployment looks to people and to machines."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlp.core.serving.replicas import Replicas
    from mlp.flows.serving.deploying import DeploymentPlan, DeploymentStatus


def planned_document(planned: "DeploymentPlan") -> dict[str, Any]:
    """What `--json` shows of a plan."""
    return {
        "target": planned.target,
        "context": planned.context,
        "namespace": planned.namespace,
        "release": planned.release,
        "revision": planned.before.revision if planned.before else None,
        "model": planned.model,
        "champion": planned.champion,
        "challenger": planned.challenger,
        "canary": planned.canary,
        "image": planned.image,
        "changes": list(planned.changes),
        "values": planned.values,
        "manifests": planned.manifests,
    }


def plan_lines(planned: "DeploymentPlan") -> list[str]:
    """The plan in words."""
    where = f"namespace {planned.namespace}"
    where += f" of {planned.context}" if planned.context else ""
    doing = f"install release {planned.release} in {where}"
    if planned.before is not None:
        doing = f"upgrade release {planned.release} (revision {planned.before.revision}) in {where}"
    lines = [
        f"{doing}: serve {planned.model}, champion version {planned.champion}",
        f"image: {planned.image}",
    ]
    if planned.canary is not None:
        lines.append(
            f"challenger: version {planned.challenger} for {100 * planned.canary:.4g} % of the keys"
        )
    if planned.before is not None:
        lines += [f"change: {change}" for change in planned.changes] or ["no value changes"]
    return lines


def manifests(planned: "DeploymentPlan") -> str:
    """What `kubectl apply --filename -` takes, the plan as remarks before it."""
    return "\n".join([*(f"# {line}" for line in plan_lines(planned)), planned.manifests.rstrip()])


def done_text(planned: "DeploymentPlan", seen: "Replicas | None") -> str:
    """What is said at the end."""
    address = f"http://{planned.release}.{planned.namespace}"
    if seen is None:
        return f"{planned.release} is on its way: mlp deploy status --target {planned.target}"
    return f"{planned.release}: {seen.ready} of {seen.wanted} pods answer at {address}"


def status_document(found: "DeploymentStatus") -> dict[str, Any]:
    """What `mlp deploy status --json` shows."""
    import dataclasses

    return {
        "target": found.target,
        "namespace": found.namespace,
        "release": found.release and dataclasses.asdict(found.release),
        "replicas": found.replicas and dataclasses.asdict(found.replicas),
        "autoscaler": found.autoscaler or None,
        "model": found.model,
        "traffic": dataclasses.asdict(found.traffic),
        "ledger": [dataclasses.asdict(entry) for entry in found.entries],
    }


def status_text(found: "DeploymentStatus") -> str:
    """What `mlp deploy status` shows."""
    from mlp.cli import render

    lines = [f"model {found.model}: {_traffic(found)}"]
    release = found.release
    if release is None:
        lines.append(
            f"nothing is deployed in {found.namespace}: mlp deploy --target {found.target}"
        )
    else:
        about = f"release {release.name}, revision {release.revision}, {release.status}"
        lines.append(f"{about}; chart {release.chart}, namespace {found.namespace}")
    if found.replicas is not None:
        lines += ["", _pods(found.replicas)]
        lines += [f"autoscaled: {found.autoscaler}"] if found.autoscaler else []
    if found.entries:
        rows = [
            (entry.number, render.moment(entry.at), entry.action, entry.version, entry.reason)
            for entry in found.entries
        ]
        headers = ("entry", "at", "action", "version", "reason")
        lines += ["", render.table(headers, rows)]
    return "\n".join(lines)


def _traffic(found: "DeploymentStatus") -> str:
    traffic = found.traffic
    if traffic.champion is None:
        return "it has no champion"
    text = f"champion version {traffic.champion}"
    if traffic.challenger is None:
        return f"{text}, no challenger"
    how = "in the shadow, on" if traffic.shadow else "for"
    share = f"{100 * traffic.share:.4g} % of the keys"
    return f"{text}, challenger version {traffic.challenger} {how} {share}"


def _pods(found: "Replicas") -> str:
    from mlp.cli import render

    rows = [
        (
            pod.name,
            pod.node,
            "yes" if pod.ready else "no",
            "" if pod.new else "old",
            pod.restarts,
            pod.reason,
        )
        for pod in found.pods
    ]
    text = f"{found.ready} of {found.wanted} pods answer"
    text += f"; {found.problem}" if found.problem else ""
    table = render.table(("pod", "node", "ready", "of", "restarts", "why"), rows)
    return f"{text}\n{table}" if rows else text
