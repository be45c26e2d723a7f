"""One training: the deck is written out, the network taught from the bundle that runs, and the outcome judged on what
is held out. The same order goes on where a killed one was."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from edge_adapt.learn.see import BUNDLE, Lesson, TeachConfig, TeachRequest, teach
from edge_adapt.learn.see_child import Progress
from edge_adapt.learn.see_page import write_page
from edge_adapt.store.blobs import blob_name
from robin_fleet.annotation.prefill import stored
from robin_fleet.decks.export import MANIFEST_FILE, export_deck, held_groups
from robin_fleet.decks.make import read_deck
from robin_fleet.decks.manifest import HELD, TRAIN, Manifest
from robin_fleet.folder import Fleet
from robin_fleet.ledger import decks as booked
from robin_fleet.ledger.decks import ACCEPTED, REFUSED, RUNNING, DeckRow, Signature, TrainingRow
from robin_fleet.ledger.events import add_event
from robin_fleet.ledger.samples import add_blobs
from robin_fleet.training.closed_loop import LoopConfig, Looped, PickWith, judge_loop
from robin_fleet.training.history import Group, HistoryConfig, judge_history
from robin_fleet.training.page import render_page
from robin_fleet.training.replay import Replayed, replay_decisions
from robin_perception.core.config import StrictConfig, config_digest
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.errors import Code, RobinError
from robin_perception.model.bundle import load_bundle

FOLDER = "trainings"
PAGE, LESSON_PAGE = "training.html", "lesson.html"
ACCEPT, REJECT = DECISIONS = ("accept", "reject")


class TrainConfig(StrictConfig):
    """A training and its gate."""

    teach: TeachConfig = TeachConfig()
    history: HistoryConfig = HistoryConfig()
    closed_loop: LoopConfig = LoopConfig()
    replayed: int = Field(60, ge=0, le=100_000, description="Held-out decisions that are made again by both models.")


@dataclass(frozen=True)
class TrainOrder:
    """bundle: what is begun from and judged against. core: as in ``TeachRequest``. why: it is due. novelties: ids of
    those that were past the bar. pick: the simulated closed loop, None: without; loop: which one, in words."""

    deck: DeckRow
    bundle: Path
    core: Callable[[int, int], Path]
    why: str
    deep: bool = True
    seed: int = 0
    engine: str = "onnxruntime"
    novelties: tuple[str, ...] = ()
    pick: PickWith | None = None
    loop: str = ""


@dataclass(frozen=True)
class _Judged:
    """What the fleet's own gate has found. looped: None without a closed loop."""

    groups: tuple[Group, ...]
    replayed: Replayed
    looped: Looped | None

    def told(self) -> dict[str, Any]:
        found = {"history": [_told(group) for group in self.groups], "replay": self.replayed.to_json()}
        return found if self.looped is None else {**found, "closed_loop": self.looped.to_json()}


def train(fleet: Fleet, order: TrainOrder, config: TrainConfig, progress: Progress) -> TrainingRow:
    """Teach, judge, book. Raises RobinError as ``teach``, DECK_DAMAGED, LEDGER_*, OBJECTS_*, DISK_FULL."""
    deck, parent = read_deck(fleet.objects, order.deck), load_bundle(order.bundle)
    key = training_id(order, parent.model_id, config)
    out = fleet.folder / FOLDER / key
    row = TrainingRow(
        training=key,
        deck=deck.deck,
        version=deck.version,
        parent=parent.model_id,
        candidate="",
        state=RUNNING,
        why=order.why,
        result={"novelties": list(order.novelties)},
        page=None,
        started_s=time.time(),
        ended_s=None,
    )
    known = next((one for one in _all(fleet) if one.training == key), None)
    if known is not None and known.state != RUNNING:
        return known
    row = known or row
    with fleet.ledger.write() as connection:
        booked.put_training(connection, row)
    scenes = _written(fleet, deck, out, progress)
    request = TeachRequest(
        (scenes / TRAIN,), (scenes / HELD,), order.bundle, order.core, out, order.engine, order.deep, order.seed
    )
    lesson = teach(request, config.teach, progress)
    groups = _history(deck, lesson, order.seed, config.history)
    replayed = _replayed(fleet, deck, order, out / BUNDLE, config, progress)
    looped = None if order.pick is None else judge_loop(order.pick, order.bundle, out / BUNDLE, config.closed_loop)
    return _judged(fleet, row, lesson, _Judged(groups, replayed, looped), out)


def training_id(order: TrainOrder, parent: str, config: TrainConfig) -> str:
    """The same order has the same id."""
    values = {"parent": parent, "deep": order.deep, "seed": order.seed, "config": config.model_dump(mode="json")}
    values |= {"loop": order.loop} if order.loop else {}
    return f"{order.deck.deck}-{order.deck.version}-{config_digest({**values, 'deck': order.deck.manifest})[:10]}"


def find_training(fleet: Fleet, training: str) -> TrainingRow:
    """Raises RobinError TRAINING_UNKNOWN."""
    found = next((row for row in _all(fleet) if row.training == training), None)
    if found is None:
        raise RobinError(Code.TRAINING_UNKNOWN, f"'{training}': no such training; robin fleet train status tells them")
    return found


def sign(fleet: Fleet, training: str, by: str, decision: str, text: str = "") -> Signature:
    """What a person decides on the report; it stands in the ledger for good. Raises RobinError TRAINING_UNKNOWN,
    OPTION_INVALID, and TRAINING_REFUSED where what the gate did not let through is to be accepted."""
    row = find_training(fleet, training)
    if decision not in DECISIONS or not by.strip():
        raise RobinError(Code.OPTION_INVALID, f"--decision {' or '.join(DECISIONS)} and --by NAME are needed")
    if row.page is None or (decision == ACCEPT and row.state != ACCEPTED):
        why = row.result.get("text", "it has not ended")
        raise RobinError(Code.TRAINING_REFUSED, f"{training}: {row.state}, {why}")
    signature = Signature(training, by.strip(), decision, text, row.page, time.time())
    with fleet.ledger.write() as connection:
        booked.add_signature(connection, signature)
        data = {"training": training, "decision": decision, "page": row.page}
        add_event(connection, signature.at_s, "signed", f"{training}: {decision} by {by}", data=data)
    return signature


def _all(fleet: Fleet) -> list[TrainingRow]:
    with fleet.ledger.read() as connection:
        return booked.trainings(connection)


def _written(fleet: Fleet, deck: Manifest, out: Path, progress: Progress) -> Path:
    """The deck as image folders, written once."""
    make_folder(out / "work")
    scenes = out / "work" / "deck"
    if not (scenes / MANIFEST_FILE).is_file():
        export_deck(
            fleet.objects, deck, scenes, "folders", lambda done, total: progress("writing the deck", done, total)
        )
    return scenes


def _history(deck: Manifest, lesson: Lesson, seed: int, config: HistoryConfig) -> tuple[Group, ...]:
    before, after = lesson.site
    rng = np.random.default_rng(seed)
    return judge_history(held_groups(deck), before.as_they_are, after.as_they_are, before.piles, rng, config)


def _replayed(
    fleet: Fleet, deck: Manifest, order: TrainOrder, candidate: Path, config: TrainConfig, progress: Progress
) -> Replayed:
    """Evenly over what is held out."""
    held = deck.part(HELD)
    count = min(config.replayed, len(held))
    chosen = [held[round(k * (len(held) - 1) / max(count - 1, 1))] for k in range(count)]
    samples = [stored(fleet.objects, member.sample) for member in chosen]
    return replay_decisions(
        samples, order.bundle, candidate, order.engine, lambda done, total: progress("replaying", done, total)
    )


def _judged(fleet: Fleet, row: TrainingRow, lesson: Lesson, judged: _Judged, out: Path) -> TrainingRow:
    """The gate's word, the page, and both in the ledger."""
    checks = [group.check for group in judged.groups if group.check is not None]
    history = bool(checks)
    checks += [] if judged.looped is None else [judged.looped.check]
    worse = [check for check in checks if not check.passed]
    passed = lesson.verdict.accepted and history and not worse
    reasons = [] if lesson.verdict.accepted else [lesson.verdict.text]
    reasons += [f"{check.name}: {check.text}" for check in worse]
    reasons += [] if history else ["no site, stratum or packaging has enough labels to be judged"]
    text = "; ".join(reasons) or f"all {len(lesson.verdict.checks) + len(checks)} checks passed"
    result: dict[str, Any] = {**row.result, "text": text, "lesson": lesson.to_json(), **judged.told()}
    done = row._replace(
        candidate=lesson.candidate.model_id,
        state=ACCEPTED if passed else REFUSED,
        result=_finite(result),
        ended_s=time.time(),
    )
    write_page(out / LESSON_PAGE, lesson)
    page = render_page(done, lesson, judged.groups, judged.replayed, judged.looped).encode()
    write_atomic(out / PAGE, page)
    name = blob_name(page, ".html")
    fleet.objects.put(name, page)
    with fleet.ledger.write() as connection:
        add_blobs(connection, {name: len(page)}, time.time())
        booked.put_training(connection, done._replace(page=name))
        add_event(connection, time.time(), "trained", f"{row.training}: {done.state}: {text}"[:1000])
    return done._replace(page=name)


def _told(group: Group) -> dict[str, Any]:
    found: dict[str, Any] = {"name": group.name, "parcels": group.parcels, "piles": group.piles, "judged": False}
    if group.check is not None:
        keys = ("passed", "value", "bound", "low", "high", "text")
        found |= {"judged": True, **{key: getattr(group.check, key) for key in keys}}
    return found


def _finite(value: Any) -> Any:
    """As JSON holds it: no NaN."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
