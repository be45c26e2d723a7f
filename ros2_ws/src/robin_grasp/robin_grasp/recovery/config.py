"""What a user turns of the recovery policy and of the help desk."""

from __future__ import annotations

from pydantic import Field

from robin_perception.core.config import StrictConfig


class HelpConfig(StrictConfig):
    """How long a request for help waits, by what it is about; then the answer that it states is taken."""

    load_timeout_s: float = Field(
        120.0, ge=0, le=86400, description="A load hangs on the tool, s; then it is set down. 0: waits for ever."
    )
    parcel_timeout_s: float = Field(
        300.0, ge=0, le=86400, description="A parcel that no cup holds, s; then it is left where it is. 0: for ever."
    )
    station_timeout_s: float = Field(
        0.0, ge=0, le=86400, description="The station itself is not in order, s; then the cell stops. 0: for ever."
    )
    kept: int = Field(200, ge=1, le=100_000, description="Answered requests kept in the folder of the help desk.")


class RecoveryConfig(StrictConfig):
    """Limits of the recovery policy: its table is made from them (``robin recovery table``)."""

    deliver_below: float = Field(
        0.25, gt=0, lt=1, description="P(two parcels or another one) on the tool up to which a load is delivered"
    )
    sure_from: float = Field(0.8, gt=0, lt=1, description="P(two parcels or another one) from which that is sure")
    put_backs: int = Field(1, ge=0, le=5, description="times that a second parcel is put back in one pick")
    set_downs: int = Field(2, ge=1, le=10, description="times that loads of one parcel are set down, then help")
    doubtful_set_downs: int = Field(
        1, ge=1, le=10, description="the same while the judgement is not sure: a doubt that stays is not worth a third"
    )
    cups_tries: int = Field(1, ge=1, le=10, description="failed tries of a parcel after which only the cups change")
    pose_tries: int = Field(1, ge=0, le=10, description="failed tries after those after which the pose changes")
    failures_in_a_row: int = Field(
        6, ge=2, le=50, description="failed tries in a row, whatever they were at, that are no parcel's fault: help"
    )
    looks: int = Field(5, ge=1, le=100, description="images taken again before a person is asked why")
    helps_in_a_row: int = Field(3, ge=1, le=50, description="requests for help without a good pick since: stop")
    slow_factor: float = Field(0.5, gt=0, le=1, description="speed, and its square acceleration, under `slow_down`")
    help: HelpConfig = HelpConfig()
