"""An aggregator with something on each of its pages: novelties, faults, a release on its way, a training."""

from __future__ import annotations

from pathlib import Path

from helpers.release_samples import World, world
from helpers.unfamiliar_samples import BLUE, RED, book, unfamiliar
from robin_fleet.folder import make_fleet, open_fleet
from robin_fleet.ledger import decks as booked
from robin_fleet.ledger.decks import ACCEPTED, TrainingRow
from robin_fleet.ledger.robots import enrol
from robin_fleet.ledger.samples import add_blobs
from robin_fleet.novelties.update import update
from robin_fleet.rollout.plan import RolloutPlan
from robin_fleet.rollout.runner import RolloutRunner

REPORT = b"<!doctype html><title>t</title><style>p{color:red}</style><p>as it was signed</p><script>1</script>"
HOSTILE = "<script>alert(1)</script>"


def make_view_fleet(folder: Path) -> World:
    """Returns the world of its releases; the aggregator lies in ``folder / "fleet"``."""
    made = world(folder)
    make_fleet(folder / "fleet")
    with open_fleet(folder / "fleet") as fleet:
        for number in range(6):
            book(
                fleet,
                unfamiliar(RED, number, result="miss" if number % 2 else "clean"),
                "north",
                "belt-1",
                1e4 * number,
            )
            book(fleet, unfamiliar(BLUE, 50 + number), "south", "belt-2", 5000.0 + 1e4 * number)
        book(fleet, unfamiliar(RED, 90, dark=True), "north", "belt-3", 9e5)
        update(fleet.ledger, fleet.objects)
        fleet.objects.put(name := _blob(REPORT), REPORT)
        row = TrainingRow("goods-1-0000", "goods", 1, "a@1", "b@2", ACCEPTED, HOSTILE, {}, name, 1000.0, 2000.0)
        with fleet.ledger.write() as connection:
            add_blobs(connection, {name: len(REPORT)}, 1000.0)
            booked.put_training(connection, row)
            for number in range(3):
                enrol(connection, f"cell-{number}", "north", "belt-1", f"{number}" * 40, 1000.0)
        made.release("spring", bundle=made.bundles[1])
        RolloutRunner(fleet.ledger, made.repository, made.clock).start("spring", RolloutPlan(), "cell-0")
    return made


def _blob(data: bytes) -> str:
    from edge_adapt.store.blobs import blob_name

    return blob_name(data, ".html")
