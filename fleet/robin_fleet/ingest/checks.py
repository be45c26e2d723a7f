"""Whether bytes from a robot are what their name and kind say. Nothing of a size that they claim is made before that
size is bounded."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError, deserialize

from edge_adapt.store.blobs import blob_name
from edge_adapt.store.config import NOVELTY
from edge_adapt.store.sample import SampleRecord, parse_depth
from robin_fleet.objects.interface import is_blob
from robin_perception.core.bounded import parse_json
from robin_perception.core.bounded_arrays import IMAGE_BYTES, decode_image
from robin_perception.core.config import first_fault
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.ids import PlainId

FILE, RECORD, METRICS, DECISION = "file", "record", "metrics", "decision"
MOST_BYTES = {FILE: IMAGE_BYTES, RECORD: 8_000_000, METRICS: 1_000_000, DECISION: 4_000_000}
"""Of a blob, by its kind."""
MOST_FILES = 64
"""Of a sample."""
_IMAGES = (".png", ".jpg", ".jpeg")
_Text = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
_FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}$")]
_Blob = Annotated[str, Field(pattern=r"^[0-9a-f]{64}(\.[a-z0-9]{1,16})?$")]
_Bytes = Annotated[int, Field(ge=0, le=IMAGE_BYTES)]


class _Condition(BaseModel):
    family: str = ""
    instances: tuple[int, ...] = ()


class _Instance(BaseModel):
    id: int
    novelty: float | None = None


class _Candidate(BaseModel):
    instance: int


class _Decision(BaseModel):
    """Of a decision what the ledger books; releases of robots differ in the rest, and it is kept as it came."""

    decision_id: PlainId
    model_id: _Text = ""
    conditions: tuple[_Condition, ...] = ()
    instances: tuple[_Instance, ...] = ()
    candidates: tuple[_Candidate, ...] = ()
    choice: Annotated[int, Field(ge=0)] | None = None

    @property
    def chosen(self) -> int | None:
        """Id of the instance that was to be picked."""
        if self.choice is None or self.choice >= len(self.candidates):
            return None
        return self.candidates[self.choice].instance

    @property
    def environment(self) -> bool:
        """Whether light, lens, depth or camera were not as they should be."""
        return any(condition.family == "environment" for condition in self.conditions)

    @property
    def novel(self) -> bool:
        """Whether nobody taught the goods that were to be picked."""
        chosen = self.chosen
        told = (chosen in one.instances for one in self.conditions if one.family == "novelty")
        odd = ((one.novelty or 0) > 1 for one in self.instances if one.id == chosen)
        return any(told) or any(odd)


class Booked(BaseModel):
    """Of a sample's record what the ledger books, within bounds. files: name -> blob and bytes."""

    seq: Annotated[int, Field(ge=1, lt=1 << 62)]
    share: _Text
    name: _Text
    result: _Text
    at_s: Annotated[float, Field(ge=-1e12, le=1e12)]
    station: _Text
    files: Annotated[dict[_FileName, tuple[_Blob, _Bytes]], Field(max_length=MOST_FILES)]
    decision: _Decision

    @property
    def novel(self) -> bool:
        return self.share == NOVELTY or self.decision.novel


def check_name(name: str, kind: str, data: bytes) -> None:
    """Raises RobinError BLOB_REFUSED."""
    if kind not in MOST_BYTES:
        raise RobinError(Code.BLOB_REFUSED, f"a blob of kind '{kind}': known are {', '.join(MOST_BYTES)}")
    if not is_blob(name):
        raise RobinError(Code.BLOB_REFUSED, f"'{name}': no name of a blob")
    if len(data) > MOST_BYTES[kind]:
        raise RobinError(Code.INPUT_TOO_LARGE, f"{name}: {len(data):,} bytes, {MOST_BYTES[kind]:,} are allowed")
    if blob_name(data) != name[:64]:
        raise RobinError(Code.BLOB_REFUSED, f"{name}: its content is not what its name says")


def check_content(name: str, kind: str, data: bytes) -> None:
    """That a file of a sample, or a report, can be read. Raises RobinError INPUT_UNREADABLE, INPUT_TOO_LARGE,
    RECORD_INVALID, BLOB_REFUSED."""
    suffix = name[64:]
    if kind != FILE:
        if not isinstance(parse_json(data, name, Code.RECORD_INVALID), dict):
            raise RobinError(Code.RECORD_INVALID, f"{name}: no JSON object")
    elif suffix in _IMAGES:
        decode_image(data, name)
    elif suffix == ".zst":
        parse_depth(data, name)
    elif suffix == ".safetensors":
        try:
            deserialize(data)
        except SafetensorError as exc:
            raise RobinError(Code.INPUT_UNREADABLE, f"{name}: not a safetensors file: {exc}") from None
    else:
        raise RobinError(Code.BLOB_REFUSED, f"{name}: no kind of file that a sample has")


def parse_record(name: str, data: bytes) -> tuple[SampleRecord, Booked]:
    """A sample's record, and what is booked of it. Raises RobinError RECORD_INVALID."""
    record = SampleRecord.parse(data, name)
    values = {key: getattr(record, key) for key in Booked.model_fields}
    try:
        return record, Booked.model_validate(values)
    except ValidationError as exc:
        raise RobinError(Code.RECORD_INVALID, f"{name}: {first_fault(exc)}") from None
