"""Where decisions come from on the aggregator: its ledger and objects."""

from __future__ import annotations

from collections.abc import Iterator

from edge_adapt.evidence import Evidence, SampleEvidence
from robin_fleet.annotation.prefill import stored
from robin_fleet.folder import Fleet
from robin_fleet.ledger.samples import SampleFilter, find_samples
from robin_perception.core.errors import RobinError
from robin_view.archive.facts import Facts
from robin_view.archive.index import Place
from robin_view.archive.readers import told


class FleetReader:
    """The samples of all robots that the aggregator has."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self._fleet, self.number, self.title = fleet, number, f"aggregator {fleet.folder}"
        self._since_s, self._seen = 0.0, set[str]()

    def new(self) -> Iterator[tuple[Facts, Place] | RobinError]:
        with self._fleet.ledger.read() as connection:
            rows = find_samples(connection, SampleFilter(since_s=self._since_s))
        fresh = [row for row in reversed(rows) if row.sample not in self._seen]
        for row in fresh:
            if row.received_s > self._since_s:  # others may still come with the same time
                self._since_s, self._seen = row.received_s, set()
            self._seen.add(row.sample)
            try:
                record = stored(self._fleet.objects, row.sample).record
            except RobinError as exc:
                yield exc
                continue
            place = Place(self.number, blob=row.sample)
            station = f"{row.site}/{row.station}"
            yield told(record.decision, place, row.sample, station, "color.png" in record.files, row.robot)

    def evidence(self, place: Place) -> Evidence:
        return SampleEvidence(stored(self._fleet.objects, place.blob))
