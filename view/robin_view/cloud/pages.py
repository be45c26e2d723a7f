"""``/d/<id>/cloud``: the recorded frame as points in base_link. three.js draws it: it is half a megabyte that runs in
every browser, where Rerun's viewer is twenty and has to be installed."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edge_adapt.evidence import Evidence, frame_of
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.segmentation.overlay import instance_colour
from robin_view.pictures import picture_answer
from robin_view.state import ViewState

MOST_POINTS = 120_000
NO_PARCEL = 0


def router(view: ViewState) -> APIRouter:
    routes = APIRouter(prefix="/d/{decision_id}/cloud")

    @routes.get("")
    def cloud(request: Request, decision_id: str) -> Response:
        decision = view.archive.evidence(decision_id).decision
        return view.pages.page("cloud/cloud.html.j2", request, key=decision_id, d=decision)

    @routes.get("/points")
    def points(request: Request, decision_id: str) -> Response:
        data = points_bytes(view.archive.evidence(decision_id))
        return picture_answer(request, data, "application/octet-stream")

    @routes.get("/scene")
    def scene(decision_id: str) -> JSONResponse:
        return JSONResponse(scene_values(view.archive.evidence(decision_id)))

    return routes


def points_bytes(evidence: Evidence) -> bytes:
    """N points: float32 [N, 3] in base_link, metres; uint16 [N] parcels, 0 none; uint8 [N, 3] RGB, one after another.
    Raises RobinError INPUT_MISSING where the frame was not kept."""
    frame, labels = frame_of(evidence), evidence.labels()
    if frame is None:
        raise RobinError(Code.INPUT_MISSING, f"{evidence.decision.decision_id}: its frame was not kept")
    v, u = np.nonzero(frame.depth > 0)
    step = max(1, -(-len(v) // MOST_POINTS))
    v, u = v[::step], u[::step]
    fits = labels is not None and labels.shape == frame.depth.shape
    parcels = labels[v, u] if fits and labels is not None else np.full(len(v), NO_PARCEL)
    xyz = _points(frame, u, v)
    return xyz.astype("<f4").tobytes() + parcels.astype("<u2").tobytes() + frame.rgb[v, u].tobytes()


def _points(frame: Frame, u: Any, v: Any) -> Any:
    z = frame.depth[v, u].astype(np.float64)
    rays = np.stack([(u - frame.K[0, 2]) / frame.K[0, 0], (v - frame.K[1, 2]) / frame.K[1, 1], np.ones_like(z)], axis=1)
    return (rays * z[:, None]) @ frame.T_base_camera[:3, :3].T + frame.T_base_camera[:3, 3]


def scene_values(evidence: Evidence) -> dict[str, Any]:
    """Tool, cups, parcels and camera as plain values, metres in base_link."""
    decision = evidence.decision
    tool, chosen = decision.context.tool, decision.chosen
    return {
        "parcels": [
            {"id": seen.id, "name": seen.class_name.replace("_", " "), "colour": instance_colour(seen.id)}
            for seen in decision.instances
        ],
        "tool": {"cups": tool.cup_centres_m, "radius": tool.cup_radius_m, "half_size": tool.plate_half_size_m},
        "grasps": [
            {
                "parcel": candidate.instance,
                "position": candidate.position_m,
                "quaternion": candidate.quaternion_xyzw,
                "cups": candidate.cups,
                "chosen": candidate is chosen,
                "title": f"rank {candidate.rank}, parcel {candidate.instance}",
            }
            for candidate in decision.candidates
        ],
        "camera": decision.frame.camera_position_m,
    }
