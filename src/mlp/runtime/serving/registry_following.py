"""Following registry and ledger without a restart: what a worker is to serve, and what it does."""

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mlp.adapters.base import statefile
from mlp.adapters.prometheus import Metrics
from mlp.adapters.scoring import Scorer, brings_code, left_code
from mlp.adapters.state import StateDatabase, open_state
from mlp.adapters.tracking import registry
from mlp.core.ab.traffic import Traffic, percent, traffic
from mlp.core.errors import MlpError, RemoteError
from mlp.core.models.ledger import Action, LedgerEntry
from mlp.core.serving.serve_section import ServeSpec
from mlp.runtime.serving.version_files import Versions

log = logging.getLogger("mlp.serving")

# How long a version that could not be had is left alone, in seconds.
_RETRY_S = 10.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A champion that has predicted on its stored example, where it has one."""

    version: str
    scorer: Scorer
    digest: str | None
    tried: bool


class RegistryFollowing:
    """What a worker knows of its model, kept up to date by threads of its own.

    Everything that others read is replaced as a whole, never changed: `champion`, `traffic`. They
    hold what was last known while the registry or the state is away.

    A version whose code would mix with that of another one is not loaded here: `succession` names
    it, and a process that is started for it takes over. Why such a process could not serve it
    stands in the file `refusal`.
    """

    def __init__(self, spec: ServeSpec, state: str, metrics: Metrics, refusal: Path) -> None:
        self._spec = spec
        self._metrics = metrics
        self._versions = Versions(spec.tracking_uri, spec.model, Path(spec.cache))
        self._memory = Path(spec.cache) / spec.model / "traffic.json"
        self._state: StateDatabase = open_state(state)
        self._aliases: dict[str, str] | None = None
        self._entries: list[LedgerEntry] = []
        self._out: dict[str, int] = {}  # taken out here: version -> the ledger's last number then
        self._asked = threading.Event()
        self._wanted: list[LedgerEntry] = []
        self._retry: dict[str, float] = {}
        self._refused: dict[str, str] = {}
        self._seen = {"registry": 0.0, "state": 0.0}
        self._away: dict[str, str] = {}
        self._deciding = threading.Lock()
        self._looked = threading.Event()  # at the ledger, which has the digests
        self._loading: str | None = None
        self._loaded: dict[str, Path] = {}  # what this process has loaded, or tried to
        self._refusal = refusal
        self.succession: str | None = None
        self.runs: dict[str, str] = {}  # version -> the run that made it
        self.champion: Loaded | None = None
        self.traffic = Traffic(None)
        # Called from a thread of this class when the attribute of that name has changed.
        self.on_champion: Callable[[], object] = lambda: None
        self.on_succession: Callable[[], object] = lambda: None
        self.on_refused: Callable[[str, str], object] = lambda *_: None
        self.on_traffic: Callable[[], object] = lambda: None

    def start(self) -> None:
        """Begin to follow, in the background."""
        self._remember()
        for name, look in (("registry", self._look_at_registry), ("state", self._look_at_state)):
            arguments = (name, look)
            threading.Thread(target=self._follow, args=arguments, name=name, daemon=True).start()

    def challenger_files(self, version: str) -> tuple[Path, str | None]:
        """As `Versions.fetch`, for the challenger's process; may take as long as a download."""
        return self._fetch(version)

    @property
    def idle(self) -> bool:
        """Whether no champion is about to be loaded: none is wanted, or it could not be had."""
        wanted = self._aliases is None or self.traffic.champion is not None
        return bool(self._away or self._refused) or not wanted

    def take_out(self, version: str, evidence: dict[str, Any]) -> None:
        """Give the challenger no more requests, here at once and in the ledger soon."""
        with self._deciding:
            if version in self._out:
                return
            seen = self._entries[-1].number if self._entries else 0
            self._out[version] = seen
        log.error("challenger %s is taken out: %s", version, json.dumps(evidence))
        entry = LedgerEntry(
            self._spec.model,
            Action.TAKEN_OUT,
            version,
            actor="mlp serve",
            reason=str(evidence.get("reason", "")),
            evidence=evidence,
        )
        self._wanted.append(replace(entry, number=seen))
        self._decide()
        self._asked.set()

    def detail(self) -> dict[str, Any]:
        """What /ready tells: versions, traffic, what is away, what was refused."""
        now = time.time()
        return {
            "champion": None if self.champion is None else self.champion.version,
            "verified": self.champion is not None and self.champion.digest is not None,
            "loading": self._loading or self.succession,
            "traffic": asdict(self.traffic),
            "followed_seconds_ago": {k: round(now - at, 1) for k, at in self._seen.items() if at},
            "away": dict(self._away),
            "refused": dict(self._refused),
        }

    # --- looking --------------------------------------------------------------------------------

    def _follow(self, name: str, look: Callable[[], None]) -> None:
        while True:
            try:
                look()
            except MlpError as e:
                self._note_away(name, e.one_line())
            except Exception as e:  # noqa: BLE001 - a follower that ends would follow nothing
                self._note_away(name, f"{type(e).__name__}: {e}")
            else:
                if self._away.pop(name, None) is not None:
                    log.info("%s is back", name)
                self._seen[name] = time.time()
                self._metrics.seen(name, self._seen[name])
            self._decide()
            if name == "state":
                self._looked.set()
                self._asked.wait(self._spec.serve.poll)
                self._asked.clear()
            else:
                self._looked.wait()
                self._load()
                time.sleep(self._spec.serve.poll)

    def _note_away(self, name: str, why: str) -> None:
        why = why.partition("\n")[0]  # what a database adds: the statement and its parameters
        if name not in self._away:
            log.warning("%s is away, and what is known goes on: %s", name, why)
        self._away[name] = why

    def _look_at_registry(self) -> None:
        if not registry.there(self._spec.tracking_uri):
            raise RemoteError(f"the file {self._spec.tracking_uri} is gone")
        self._aliases = registry.aliases(self._spec.tracking_uri, self._spec.model)

    def _look_at_state(self) -> None:
        last = self._entries[-1].number if self._entries else 0
        new = self._state.entries(self._spec.model, after=last)
        self._entries = [*self._entries, *new]
        while self._wanted:
            entry = self._wanted[0]
            self._state.append_once(replace(entry, number=0), _already(entry))
            self._wanted.pop(0)
        for entry in new:
            shared = entry.action == Action.SHARED and entry.version in self._out
            if shared and entry.number > self._out[str(entry.version)]:
                self._out.pop(str(entry.version))

    # --- deciding -------------------------------------------------------------------------------

    def _decide(self) -> None:
        with self._deciding:
            if self._aliases is None:
                return
            serve = self._spec.serve
            found = traffic(self._aliases, self._entries, serve.challenger, serve.shadow)
            if found.challenger in self._out:
                found = replace(found, share=0.0)
            if found.champion is None:  # an alias that is gone takes nobody's answers away
                found = replace(found, champion=self.traffic.champion)
            if found == self.traffic:
                return
            self.traffic = found
            self._keep(found)
        log.info("traffic: %s", _in_words(found))
        self.on_traffic()

    def _keep(self, now: Traffic) -> None:
        """What a worker serves that starts while the registry is away."""
        try:
            statefile.write(self._memory, asdict(now))
        except OSError as e:
            log.warning("what is served cannot be written down: %s", e)

    def _remember(self) -> None:
        """Serve what was last served here, until the registry answers."""
        known = statefile.read(self._memory)
        if known.keys() == Traffic.__dataclass_fields__.keys():
            self.traffic = Traffic(**known)
            self.on_traffic()

    # --- loading --------------------------------------------------------------------------------

    def _load(self) -> None:
        """Load the champion where another one is wanted; the old one answers until it is there."""
        wanted = self.traffic.champion
        # Replaced as a whole: others read it. What nobody asks for any more is left out.
        self._refused = {v: why for v, why in self._refused.items() if v == wanted}
        if wanted is None or (self.champion is not None and self.champion.version == wanted):
            self.succession = None
            return
        if self.succession == wanted:
            self._look_at_refusal(wanted)
            return
        if time.monotonic() < self._retry.get(wanted, 0.0):
            return
        self._loading = wanted
        try:
            path, digest = self._fetch(wanted)
            if not self._fits(wanted, path):
                self._hand_over(wanted)
                return
            loaded = self._ready(wanted, path, digest)
        except MlpError as e:
            self._refuse(wanted, e.one_line())
            return
        except Exception as e:  # noqa: BLE001 - a model's own code may raise anything
            self._refuse(wanted, f"{type(e).__name__}: {e}")
            return
        finally:
            self._loading = None
        self._refused.pop(wanted, None)
        if self.champion is not None:
            self._metrics.loaded("champion", self.champion.version, False)
        self.champion = loaded
        self._metrics.loaded("champion", wanted, True)
        log.info("champion: version %s", wanted)
        self.on_champion()

    def _fits(self, version: str, path: Path) -> bool:
        """Whether the version can be loaded in this process without a mix of two versions' code."""
        others = [folder for each, folder in self._loaded.items() if each != version]
        if not others:
            return True
        return not (brings_code(path) or any(brings_code(o) or left_code(o) for o in others))

    def _hand_over(self, version: str) -> None:
        log.info(
            "version %s has code of its own, or the one before: a new worker loads it", version
        )
        self._refusal.unlink(missing_ok=True)
        self.succession = version
        self.on_succession()

    def _look_at_refusal(self, version: str) -> None:
        """The new worker may have found that it cannot serve the version: it is tried again."""
        known = statefile.read(self._refusal)
        if known.get("version") == version:
            self.succession = None
            self._refuse(version, str(known["why"]))

    def _refuse(self, version: str, why: str) -> None:
        self._retry[version] = time.monotonic() + _RETRY_S
        if self._refused.get(version) != why:
            log.error("version %s is not served: %s", version, why)
        self._refused[version] = why
        self.on_refused(version, why)

    def _fetch(self, version: str) -> tuple[Path, str | None]:
        found = self._versions.fetch(version, self._entries)
        run = self._versions.run(version, self._entries)
        if run is not None:
            self.runs[version] = run
        return found

    def _ready(self, version: str, path: Path, found: str | None) -> Loaded:
        self._loaded[version] = path
        if found is None:
            log.warning("version %s has no recorded digest: its files were not checked", version)
        scorer = Scorer.load(path, probabilities=self._spec.serve.log_probabilities)
        if scorer.example is not None:
            scorer.answer(scorer.read(*scorer.example))
        return Loaded(version, scorer, found, scorer.example is not None)


def _in_words(now: Traffic) -> str:
    champion = "no champion" if now.champion is None else f"champion {now.champion}"
    if now.challenger is None:
        return f"{champion}, no challenger"
    does = "predicts beside it for" if now.shadow else "answers"
    return f"{champion}; challenger {now.challenger} {does} {percent(now.share)} of the users"


def _already(entry: LedgerEntry) -> Callable[[Sequence[LedgerEntry]], bool]:
    """Whether the version is out already, or shared anew since the entry's evidence was seen."""

    def said(before: Sequence[LedgerEntry]) -> bool:
        told = [
            e
            for e in before
            if e.version == entry.version and e.action in (Action.SHARED, Action.TAKEN_OUT)
        ]
        return bool(told) and (
            told[-1].action == Action.TAKEN_OUT or told[-1].number > entry.number
        )

    return said
