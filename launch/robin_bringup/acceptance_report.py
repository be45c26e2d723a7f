"""The report of an acceptance: JSON for machines, one HTML page for people."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from edge_adapt.decision import Decision
from robin_bringup.acceptance import Verdict
from robin_perception.core.disk import make_folder, write_atomic

JSON_FILE = "acceptance.json"
HTML_FILE = "acceptance.html"


def write_acceptance(folder: Path, station: str, verdict: Verdict, decisions: tuple[Decision, ...]) -> Path:
    """Write both files and return the page's path. Raises RobinError DISK_FULL, OPTION_INVALID naming the file."""
    make_folder(folder)
    head = {"station": station, "written_at": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    picks = [{"id": d.decision_id, "result": d.result, "model": d.model_id} for d in decisions]
    values: dict[str, Any] = {**head, **verdict.to_json(), "picks": picks}
    write_atomic(folder / JSON_FILE, json.dumps(values, indent=1).encode() + b"\n")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html.j2"], default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("acceptance.html.j2").render(**head, verdict=verdict, decisions=decisions)
    write_atomic(folder / HTML_FILE, page.encode())
    return folder / HTML_FILE
