"""Writes one decision record per pick of a running cell: opened with the plan, closed with the outcome. No ROS here."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from edge_adapt.decision import Decision, DecisionContext, build_decision, with_outcome
from edge_adapt.decision_store import LONGEST_RECORD, DecisionStore
from edge_adapt.picture_keeper import PictureKeeper, PictureRules
from edge_adapt.record_build import reported_judgement
from edge_adapt.record_parts import CupRecord, HelpRecord, RecoveryStepRecord
from edge_adapt.recording import pick_images
from edge_adapt.store.sample import Sample, sample_of
from robin_grasp.picks.open_picks import OpenPick
from robin_grasp.picks.outcome import PickOutcome
from robin_grasp.picks.outcome_report import OutcomeReport
from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.disk import write_atomic
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.ids import plain_id

if TYPE_CHECKING:
    from edge_adapt.store.store import SampleStore  # its libraries are asked for where there is a store

OPEN_FILE = "open_pick.json"  # the record of the pick under way, so that it survives the recorder
REMEMBERED = 64
MOST_REMOVED = 16  # picks whose pictures go before one record: the writer is not held up by a large clean-up


class PickRecorder:
    """Records of ``folder``; one pick is open at a time. Owned by one thread.

    A pick whose outcome never comes is closed as unfinished by the next one, also after the recorder itself was killed:
    then without images. context: what is the same for every pick. keep_images: frame, labels and frame after each pick.
    rules: which pictures stay; None: the defaults. samples: takes the images in place of ``folder``; what it cannot
    take is told as ``samples_failure``, and the record is written all the same.
    """

    def __init__(
        self,
        folder: Path,
        context: DecisionContext,
        keep_images: bool = True,
        rules: PictureRules | None = None,
        samples: SampleStore | None = None,
    ) -> None:
        self.samples = samples
        self.samples_failure: RobinError | None = None
        self._context = context
        self._keep_images = keep_images
        self._numbers = itertools.count()
        self._done: deque[str] = deque(maxlen=REMEMBERED)
        self._store = DecisionStore(folder)
        self.pictures = PictureKeeper(folder, rules or PictureRules())
        self._pick: OpenPick | None = None
        self._held: PickOutcome | None = None
        self._cups: dict[int, CupRecord] = {}
        self._record = self._left_open()

    @property
    def path(self) -> Path:
        return self._store.path

    @property
    def recording(self) -> bool:
        """False after a write failed, until the recorder is made anew."""
        return self._store.recording

    @property
    def open_id(self) -> str | None:
        """Id of the pick that waits for its outcome."""
        return None if self._record is None else self._record.decision_id

    def open(self, pick: OpenPick) -> list[Decision]:
        """A grasp was handed out, or none was found. Returns the records written: of an earlier pick that nobody
        closed, and of this one when there is nothing to execute. Known picks are ignored. Raises RobinError ID_INVALID,
        DISK_FULL.
        """
        plan_id = plain_id(pick.notice.plan_id, "plan_id")
        if plan_id == self.open_id or plan_id in self._done:
            return []
        written = self.abandon("another plan was handed out before its outcome came")
        record = self._record_of(pick)
        if record.choice is None:
            written.append(self._write(record, pick, None))
            return written
        self._record, self._pick, self._held = record, pick, None
        write_atomic(self._open_file, record.model_dump_json().encode())
        return written

    def note_held(self, report: OutcomeReport) -> None:
        """The load hangs on the tool, was judged, and the recovery policy has said what to do with it. Raises
        RobinError PLAN_UNKNOWN, DISK_FULL."""
        record = self._open_record(report)
        self._held = report.measured()
        self._record = record.model_copy(update={"steps": (*record.steps, _step_of(report))})
        write_atomic(self._open_file, self._record.model_dump_json().encode())

    def note_cup(self, cup: CupRecord) -> None:
        """What is believed of a cup from now on."""
        self._cups[cup.cup] = cup

    def note_help(self, told: HelpRecord) -> None:
        """What became of a request for help; nothing where the open pick did not ask it."""
        if self._record is None:
            return
        steps = tuple(
            step.model_copy(update={"help": told})
            if step.help is not None and step.help.help_id == told.help_id
            else step
            for step in self._record.steps
        )
        self._record = self._record.model_copy(update={"steps": steps})

    def close(
        self,
        report: OutcomeReport,
        after: Frame | None,
    ) -> Decision:
        """The pick has ended. Raises RobinError PLAN_UNKNOWN if it is not the open one, OUTCOME_INVALID, DISK_FULL."""
        record = self._open_record(report)
        flags = () if after is not None else ("no_frame_after",)
        outcome = _with_held(report.measured(), self._held)
        record = with_outcome(
            self._in_pile(record, outcome),
            report.grasp,
            outcome,
            reported_judgement(report),
            flags,
            steps=(_step_of(report),) if report.action else (),
            digests={"pick_check": report.check_digest},
        )
        return self._finish(record, after, outcome)

    def abandon(self, reason: str) -> list[Decision]:
        """Close the open pick, if there is one, as unfinished for that reason."""
        if self._record is None:
            return []
        code = Code.PICK_UNFINISHED
        text = f"E{int(code)} {code.name}: {reason}; plan: {self._record.message}"
        flags = (*self._record.flags, "outcome_missing")
        return [self._finish(self._record.model_copy(update={"flags": flags, "message": text}), None)]

    def shut(self) -> None:
        """Close the files. A pick under way stays open on disk."""
        self._store.close()
        if self.samples is not None:
            self.samples.close()

    def _open_record(self, report: OutcomeReport) -> Decision:
        if self._record is None or report.plan_id != self.open_id:
            raise RobinError(Code.PLAN_UNKNOWN, f"outcome of plan '{report.plan_id}', which is not the pick under way")
        return self._record

    @property
    def _open_file(self) -> Path:
        return self._store.folder / OPEN_FILE

    def _left_open(self) -> Decision | None:
        """The pick that was under way when an earlier recorder ended."""
        try:
            left = Decision.model_validate_json(read_plain_bytes(self._open_file, LONGEST_RECORD))
        except (RobinError, ValidationError):  # written atomically: a foreign or an older file is not ours to close
            return None
        return left.model_copy(update={"flags": (*left.flags, "recorder_restarted")})

    def _record_of(self, pick: OpenPick) -> Decision:
        notice, scene = pick.notice, pick.scene
        context = self._context.in_pile(self._context.pile, next(self._numbers))
        seconds = {"frame_to_plan": scene.timings_ms.get("segment", 0.0) + sum(notice.plan.timings_ms.values())}
        record = build_decision(
            context,
            pick.frame,
            scene,
            notice.plan,
            None,
            failed=notice.failed,
            timings_ms=seconds,
            flags=notice.flags,
            cup_health=[self._cups[cup] for cup in sorted(self._cups)],
        )
        return record.model_copy(update={"decision_id": notice.plan_id})

    def _in_pile(self, record: Decision, outcome: PickOutcome) -> Decision:
        """The simulated cell tells which pile it was; on a robot nobody counts them."""
        pile = outcome.truth.get("pile")
        if not isinstance(pile, int):
            return record
        self._context = self._context.model_copy(update={"pile": pile})
        return record.model_copy(update={"context": record.context.model_copy(update={"pile": pile})})

    def _finish(self, record: Decision, after: Frame | None, outcome: PickOutcome | None = None) -> Decision:
        pick, self._pick, self._record, self._held = self._pick, None, None, None
        written = self._write(record, pick, after, outcome)
        self._open_file.unlink(missing_ok=True)
        return written

    def _write(
        self, record: Decision, pick: OpenPick | None, after: Frame | None, outcome: PickOutcome | None = None
    ) -> Decision:
        self._done.append(record.decision_id)
        keep = pick if self._keep_images else None
        in_folder = keep is not None and self.samples is None
        images = pick_images(keep.frame, keep.scene, after, outcome) if keep is not None and in_folder else None
        self._make_room()
        written = self._store.append(record, images)
        self.pictures.add(written)
        if keep is not None and self.samples is not None:
            self._keep_sample(self.samples, sample_of(written, keep.frame, keep.scene, after, outcome))
        return written

    def _keep_sample(self, samples: SampleStore, sample: Sample) -> None:
        try:
            samples.add(sample)
            self.samples_failure = None
        except RobinError as exc:
            self.samples_failure = exc

    def _make_room(self) -> None:
        """Before a record is written, so that the disk does not fill while old pictures lie on it."""
        for _ in range(MOST_REMOVED):
            if self.pictures.step() is None:
                return


def _step_of(report: OutcomeReport) -> RecoveryStepRecord:
    """What was judged and asked for with a report."""
    return RecoveryStepRecord(
        **reported_judgement(report).model_dump(),
        state=report.stage.value,
        action=report.action,
        reason=report.action_reason,
        help=HelpRecord(help_id=report.help_id) if report.help_id else None,
    )


def _with_held(ended: PickOutcome, held: PickOutcome | None) -> PickOutcome:
    """Traces and look of the last load that was judged, where the end of the pick came without."""
    if held is None:
        return ended
    return replace(ended, traces=ended.traces or held.traces, load=ended.load or held.load)
