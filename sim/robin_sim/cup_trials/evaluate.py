"""How soon a bad cup is found, how often a good one is blamed, and what cup health is worth in the closed loop.

All of it takes hours; what is done stands in a work folder, line by line, and is not done again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robin_grasp.cup_health import CupHealth
from robin_grasp.cup_health_file import CupHealthKeeper
from robin_grasp.tool import ToolConfig
from robin_perception.core.disk import make_folder
from robin_perception.core.stats import percentiles, rate
from robin_sim.cup_trials.presses import GOODS, Press, append_presses, press_pile, read_presses
from robin_sim.faults import Faults
from robin_sim.runs.cell_runner import build_cell
from robin_sim.runs.request import RunRequest
from robin_sim.scenario import Scenario, load_scenario

KINDS = ("blocked", "torn")
LOOPS = ("mixed", "blocked_cup", "torn_cup")
"""With cup health; those with a bad cup without it too."""
MOST_PICKS = 80  # of one trial; a cup that was not found by then was missed

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class CupTrials:
    """What to try. presses: of good cups; trials: of each fault of each cup; picks: of each scenario, with cup health
    and without. masks, model: as of a run."""

    seed: int
    presses: int
    trials: int
    picks: int
    work: Path
    masks: str = "oracle"
    model: Path | None = None


def evaluate_cups(trials: CupTrials, progress: Progress) -> dict[str, Any]:
    """Figures under ``healthy``, ``faults`` and ``closed_loop``; all rates with 95 % Wilson intervals."""
    make_folder(trials.work)
    healthy = healthy_presses(trials, progress)
    found = list(_trials(trials, progress))
    loops = {name: {"with": _loop(trials, name, True, progress)} for name in LOOPS}
    for name in LOOPS[1:]:
        loops[name]["without"] = _loop(trials, name, False, progress)
    return {
        "seed": trials.seed,
        "masks": trials.masks,
        "healthy": blamed(healthy),
        "faults": {kind: _summary([row for row in found if row["kind"] == kind]) for kind in KINDS},
        "closed_loop": loops,
    }


def healthy_presses(trials: CupTrials, progress: Progress) -> list[Press]:
    """Presses of good cups, the first ``trials.presses``."""
    path = trials.work / f"presses-{trials.seed}.jsonl"
    presses = read_presses(path)
    pile = presses[-1].pile + 1 if presses else 0
    while len(presses) < trials.presses:
        scenario = GOODS[pile % len(GOODS)]
        made = list(press_pile(scenario, trials.seed, pile))
        append_presses(path, made)
        presses += made
        pile += 1
        progress(min(len(presses), trials.presses), trials.presses, f"good cups, {scenario}")
    return presses[: trials.presses]


def torn_presses(trials: CupTrials, progress: Progress) -> list[Press]:
    """Presses with one torn cup on ``mixed``, a sixth as many as of good cups."""
    path, wanted = trials.work / f"torn-{trials.seed}.jsonl", trials.presses // 6
    presses = read_presses(path)
    pile = presses[-1].pile + 1 if presses else 0
    while len(presses) < wanted:
        made = list(press_pile("mixed", trials.seed + 1, pile, torn=True))
        append_presses(path, made)
        presses += made
        pile += 1
        progress(min(len(presses), wanted), wanted, "torn cups")
    return presses


def blamed(presses: list[Press]) -> dict[str, Any]:
    """One tool makes all the presses in turn; a cup that is found bad is reset, and counted."""
    tool, health = ToolConfig(), CupHealth(ToolConfig())
    found: list[dict[str, Any]] = []
    doubted = 0
    for number, press in enumerate(presses):
        changed = health.note(*press.as_pick(tool.vacuum_pa), float(number))
        doubted += bool(health.trust.shares)
        for report in changed:
            found.append({"press": number, "cup": report.cup, "state": report.state.name.lower(), "kind": press.kind})
            health.reset((report.cup,), float(number))
    return {
        "picks": len(presses),
        "cup_uses": int(sum(press.cups.bit_count() for press in presses)),
        "false_findings": len(found),
        "picks_with_a_cup_in_doubt": doubted,
        "scenarios": dict(Counter(press.scenario for press in presses)),
        "found": found,
    }


def _trials(trials: CupTrials, progress: Progress) -> Iterator[dict[str, Any]]:
    """Closed loop on ``mixed`` with one bad cup, until it is found; each fault of each cup, several times."""
    path = trials.work / f"found-{trials.seed}.jsonl"
    done = {(row["kind"], row["cup"], row["trial"]): row for row in _rows(path)}
    wanted = [(k, cup, t) for t in range(trials.trials) for k in KINDS for cup in range(ToolConfig().cup_count)]
    for number, (kind, cup, trial) in enumerate(wanted):
        if (kind, cup, trial) not in done:
            done[kind, cup, trial] = _until_found(trials, kind, cup, trial)
            _append(path, done[kind, cup, trial])
        progress(number + 1, len(wanted), f"{kind} cup {cup}")
        yield done[kind, cup, trial]


def _until_found(trials: CupTrials, kind: str, cup: int, trial: int) -> dict[str, Any]:
    faults = Faults(blocked_cups=(cup,)) if kind == "blocked" else Faults(torn_cups=(cup,))
    config = load_scenario("mixed").config.model_copy(update={"faults": faults})
    cell = build_cell(_request(trials, Scenario("mixed", config)))
    cell.cups = CupHealth(cell.cell.tool)
    picks, others = 0, set[int]()
    seed = trials.seed + 1 + KINDS.index(kind)
    for pile in range(10_000 * trial + 1000 * cup, 10_000 * trial + 1000 * cup + 100):
        for event in cell.run_pile(seed, pile, MOST_PICKS - picks):
            picks += event.outcome is not None
            others |= {report.cup for report in cell.cups.findings if report.cup != cup}
            found = [report for report in cell.cups.findings if report.cup == cup]
            if found or picks >= MOST_PICKS:
                state = found[0].state.name.lower() if found else ""
                used = cell.cups.cups[cup].picks
                told = {"kind": kind, "cup": cup, "trial": trial, "found": state, "used": used, "picks": picks}
                return {**told, "others": sorted(others)}
    raise AssertionError("a hundred piles without eighty picks")


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    found = [row for row in rows if row["found"]]
    named = {"blocked": "blocked", "torn": "weak"}
    used = sorted(row["used"] for row in found)
    return {
        "trials": len(rows),
        "found": len(found),
        "named_rightly": sum(row["found"] == named[row["kind"]] for row in found),
        "picks_that_used_it": {**percentiles(used, (50, 90)), "most": max(used, default=0)},
        "picks": percentiles([row["picks"] for row in found], (50, 90)),
        "within_8": rate(sum(count <= 8 for count in used), len(rows)),
        "other_cups_blamed": sum(len(row["others"]) for row in rows),
    }


def _loop(trials: CupTrials, name: str, with_health: bool, progress: Progress) -> dict[str, Any]:
    """Closed loop of one scenario. One tool picks all piles."""
    told = "with" if with_health else "without"
    path = trials.work / f"loop-{trials.seed}-{name}-{told}.jsonl"
    cell = build_cell(_request(trials, load_scenario(name)))
    keeper = CupHealthKeeper(cell.cell.tool, trials.work / f"cups-{trials.seed}-{name}.json")
    cell.cups = keeper.health if with_health else None
    rows = list(_rows(path))
    attempts = sum(row["attempts"] for row in rows)
    while attempts < trials.picks:
        results = Counter(event.result for event in cell.run_pile(trials.seed, len(rows), trials.picks - attempts))
        made = sum(count for result, count in results.items() if result not in ("infeasible", "unstable"))
        rows.append({"pile": len(rows), "attempts": made, **results})
        _append(path, rows[-1])
        if with_health:
            keeper.save()
        attempts += made
        progress(attempts, trials.picks, f"{name} {told} cup health")
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update({key: value for key, value in row.items() if key != "pile"})
    clean = rate(counts["clean"], counts["attempts"])
    findings = [{"cup": r.cup, "state": r.state.name.lower()} for r in keeper.health.findings] if with_health else []
    return {**dict(counts), "clean_rate": clean, "findings": findings}


def _request(trials: CupTrials, scenario: Scenario) -> RunRequest:
    return RunRequest(scenario, 1, trials.seed, masks=trials.masks, engine="onnxruntime", model=trials.model).checked()


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
