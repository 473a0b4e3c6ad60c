"""How a change travels through a pipeline: from the stage that it enters to a metric's stage."""

from collections.abc import Mapping, Sequence

from mlp.core.compare.contrast import overlap
from mlp.core.runs.pipeline import StageState


class Graph:
    """The stages of two runs of a pipeline, and the ways in it to `goals`.

    Without `goals` every stage is one: whatever changes can matter.
    """

    def __init__(
        self, before: Sequence[StageState], after: Sequence[StageState], goals: Sequence[str]
    ) -> None:
        self._sides = ({s.name: s for s in before}, {s.name: s for s in after})
        self._names = tuple(dict.fromkeys((*self._sides[0], *self._sides[1])))
        self.goals = [goal for goal in goals if goal in self._names]
        self._targets = set(self.goals or self._names)
        self._moved = _moved_outputs(*self._sides)

    @property
    def known(self) -> bool:
        """Whether there is anything known of the stages."""
        return bool(self._names)

    def readers(self, path: str) -> tuple[str, ...]:
        """The stages that declare `path`, or a directory that it is in."""
        return tuple(
            name
            for name in self._names
            if any(overlap(path, dep) for dep in self._paths(name, "deps"))
        )

    def way(self, stages: Sequence[str]) -> tuple[tuple[str, ...], str]:
        """The shortest way of a change from one of `stages` to a goal, or why there is none.

        A change travels by outputs that differ: a stage that made the same outputs all the same
        has stopped it. No stages mean a change that is everywhere.
        """
        if not stages or not self.known:
            return (), ""
        ways = [way for stage in stages if (way := self._search(stage, only_moved=True))]
        if ways:
            return min(ways, key=len), ""
        goals = ", ".join(self.goals)
        stopped = [stage for stage in stages if self._search(stage, only_moved=False)]
        if stopped:
            names = ", ".join(stopped)
            return (), f"it reaches {names}, and what {goals} reads came out the same"
        return (), f"only {', '.join(stages)} has it, which {goals} does not depend on"

    def diverged(self) -> tuple[str, ...]:
        """Stages from which a way leads to a goal, of the same inputs and with other outputs."""
        found = []
        for name in self._names:
            old, new = self._sides[0].get(name), self._sides[1].get(name)
            if old is None or new is None or not self._search(name, only_moved=True):
                continue
            given = [(s.command, dict(s.params), _digests(s, "deps")) for s in (old, new)]
            if given[0] == given[1] and _digests(old, "outs") != _digests(new, "outs"):
                found.append(name)
        return tuple(found)

    def _search(self, start: str, *, only_moved: bool) -> tuple[str, ...]:
        """The shortest way from `start` to a goal, () where there is none."""
        ways: list[tuple[str, ...]] = [(start,)]
        seen = {start}
        for way in ways:
            if way[-1] in self._targets:
                return way
            for stage in self._consumers(way[-1], only_moved):
                if stage not in seen:
                    seen.add(stage)
                    ways.append((*way, stage))
        return ()

    def _consumers(self, stage: str, only_moved: bool) -> list[str]:
        outs = [o for o in self._paths(stage, "outs") if o in self._moved or not only_moved]
        return [
            other
            for other in self._names
            if any(overlap(dep, out) for dep in self._paths(other, "deps") for out in outs)
        ]

    def _paths(self, stage: str, which: str) -> list[str]:
        states = [side[stage] for side in self._sides if stage in side]
        return [item.path for state in states for item in getattr(state, which)]


def _digests(state: StageState, which: str) -> dict[str, str | None]:
    return {item.path: item.digest for item in getattr(state, which)}


def _moved_outputs(
    before: Mapping[str, StageState], after: Mapping[str, StageState]
) -> frozenset[str]:
    """The outputs that are not known to be the same in both runs."""
    old, new = (
        {path: digest for s in side.values() for path, digest in _digests(s, "outs").items()}
        for side in (before, after)
    )
    return frozenset(
        path
        for path in (*old, *new)
        if old.get(path) is None or new.get(path) is None or old[path] != new[path]
    )
