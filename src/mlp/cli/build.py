"""`mlp build`: the environment image of a target."""

from typing import TYPE_CHECKING, Any

import click

from mlp.cli import options

if TYPE_CHECKING:
    from mlp.flows.launch.image_building import ImagePlan
    from mlp.flows.project import Project


@click.command()
@click.argument("arguments", nargs=-1, metavar="[TARGET] [-- BUILDER_FLAGS...]")
@click.option("--base", metavar="IMAGE", help="What it is built on, instead of build.base.")
@click.option(
    "--builder",
    type=click.Choice(["docker", "podman", "buildah"]),
    help="What builds it; the first that works here unless given.",
)
@click.option("--no-push", is_flag=True, help="Build it here only.")
@click.option("--force", is_flag=True, help="Build and push it though it is there.")
@options.dry_run
@options.json_output
@options.project
def command(
    arguments: tuple[str, ...],
    base: str | None,
    builder: str | None,
    no_push: bool,
    force: bool,
    dry_run: bool,
    json_output: bool,
    project: "Project",
) -> None:
    """Make the environment image of TARGET, and push it, unless the registry has it.

    TARGET is a key of `targets` in mlp.yaml, or the only one. The image has the project's
    requirements and this mlp, not the project's code, which goes to the cluster with each launch.
    BUILDER_FLAGS are handed to the builder as they are.
    """
    import dataclasses

    from mlp.cli import render
    from mlp.flows.launch import image_building

    named = bool(arguments) and not arguments[0].startswith("-")
    planned = image_building.plan(
        project,
        arguments[0] if named else None,
        base=base,
        builder=builder,
        flags=arguments[1 if named else 0 :],
        push=not no_push,
        force=force,
    )
    if planned.image != planned.launched:
        render.note(
            f"launches on {planned.target} use {planned.launched}: put --base and the flags into"
            f" targets.{planned.target}.build in mlp.yaml, so that they use this one"
        )
    if dry_run:
        render.document(_shown(planned), _text(planned), as_json=json_output)
        return
    result = image_building.build(planned, render.note)
    done = [
        f"{word} in {render.duration(seconds)}"
        for word, seconds in (("built", result.build_seconds), ("pushed", result.push_seconds))
        if seconds is not None
    ]
    steps = [f"mlp build {planned.target}" if no_push else f"mlp doctor --target {planned.target}"]
    lines = [result.image, ", ".join(done) or f"nothing to do: {planned.reason}"]
    text = "\n".join([*lines, *render.steps(steps)])
    shown = {**dataclasses.asdict(result), "reason": planned.reason, "next": steps}
    render.document(shown, text, as_json=json_output)


def _shown(planned: "ImagePlan") -> dict[str, Any]:
    return {
        "target": planned.target,
        "image": planned.image,
        "launched": planned.launched,
        "reason": planned.reason,
        "build": planned.build,
        "push": planned.push,
        "builder": planned.builder,
        "base": planned.base,
        "flags": planned.flags,
        "push_flags": planned.push_flags,
        "files": {
            name: data.decode() for name, data in planned.files.items() if name[-4:] != ".whl"
        },
    }


def _text(planned: "ImagePlan") -> str:
    doing = [word for word, does in (("build", planned.build), ("push", planned.push)) if does]
    lines = [f"{planned.image}: {' and '.join(doing) or 'nothing to do'} ({planned.reason})"]
    lines += [f"builder: {planned.builder}"] if planned.builder else []
    for name, text in _shown(planned)["files"].items():
        if not name.endswith("/constraints.txt"):  # long, and nobody asked for it
            lines += ["", f"# {name}", text.rstrip()]
    return "\n".join(lines)
