"""Of the index: what the fleet does not have, what it is to be asked again for, and what it has said.

Plain functions over the index's connection; the store calls them inside ``index.guarded``.
"""

from __future__ import annotations

from collections.abc import Iterable

import apsw

from edge_adapt.store.acks import Ack, Word
from edge_adapt.store.config import SHARES

Row = tuple[int, str, str, str, int]
"""(seq, share, the record's blob, blob, bytes); a sample's rows stand together, the record's last."""
_JOINS = (
    "JOIN strata t ON t.id = s.stratum JOIN blobs r ON r.id = s.record "
    "JOIN uses u ON u.seq = s.seq JOIN blobs b ON b.id = u.blob"
)


def pending(db: apsw.Connection, limit: int, share: str | None = None, after: int = 0) -> list[Row]:
    """Blobs that the fleet does not have. share: of this one
    alone, those behind sequence number ``after``."""
    which = "" if share is None else "AND priority = ? AND seq > ?"
    query = (
        "SELECT s.seq, t.share, r.name, b.name, b.bytes FROM "
        f"(SELECT * FROM samples WHERE stored_s IS NULL {which} ORDER BY priority, seq LIMIT ?) s "
        f"{_JOINS} "
        "WHERE b.stored_s IS NULL ORDER BY s.priority, s.seq, b.id = s.record, b.id"
    )
    given = () if share is None else (SHARES.index(share), after)
    return list(db.execute(query, (*given, limit)))


def unchecked(db: apsw.Connection, before_s: float, now_s: float, limit: int) -> list[Row]:
    """As ``pending``, of samples that the fleet has had since ``before_s`` and was not asked for again. A time of
    storing that is still to come is that of a clock that was set back: it counts as long ago."""
    query = (
        "SELECT s.seq, t.share, r.name, b.name, b.bytes FROM "
        "(SELECT * FROM samples WHERE stored_s IS NOT NULL AND checked_s IS NULL "
        "AND (stored_s <= ? OR stored_s > ?) ORDER BY stored_s LIMIT ?) s "
        f"{_JOINS} "
        "ORDER BY s.seq, b.id = s.record, b.id"
    )
    return list(db.execute(query, (before_s, now_s, limit)))


def unfolded(db: apsw.Connection, acks: Iterable[Ack]) -> list[Ack]:
    """Those of ``acks`` that still change something here."""
    queries = {
        Word.STORED: "SELECT 1 FROM blobs WHERE name = ? AND stored_s IS NULL",
        Word.GONE: "SELECT 1 FROM blobs WHERE name = ? AND stored_s IS NOT NULL",
        Word.CHECKED: "SELECT 1 FROM samples s JOIN blobs b ON b.id = s.record WHERE b.name = ? "
        "AND s.checked_s IS NULL",
    }
    return [ack for ack in acks if db.execute(queries[ack.word], (ack.name,)).fetchone() is not None]


def mark_stored(db: apsw.Connection, names: Iterable[str], now_s: float) -> int:
    """The fleet has these blobs. Returns how many samples it has whole since."""
    with db:
        whole = sum(_mark_stored(db, name, now_s) for name in names)
    return whole


def fold(db: apsw.Connection, acks: Iterable[Ack], now_s: float) -> None:
    """What the uplink has heard of the fleet, in its order."""
    with db:
        for ack in acks:
            if ack.word is Word.STORED:
                _mark_stored(db, ack.name, now_s)
            elif ack.word is Word.GONE:
                _mark_gone(db, ack.name)
            else:
                db.execute(
                    "UPDATE samples SET checked_s = ? WHERE stored_s IS NOT NULL AND checked_s IS NULL "
                    "AND record = (SELECT id FROM blobs WHERE name = ?)",
                    (now_s, ack.name),
                )


def _mark_stored(db: apsw.Connection, name: str, now_s: float) -> int:
    db.execute("UPDATE blobs SET stored_s = ? WHERE name = ? AND stored_s IS NULL", (now_s, name))
    db.execute(
        "UPDATE samples SET stored_s = ? WHERE stored_s IS NULL "
        "AND seq IN (SELECT seq FROM uses WHERE blob = (SELECT id FROM blobs WHERE name = ?)) "
        "AND NOT EXISTS (SELECT 1 FROM uses JOIN blobs b ON b.id = blob "
        "WHERE uses.seq = samples.seq AND b.stored_s IS NULL)",
        (now_s, name),
    )
    return db.changes()


def _mark_gone(db: apsw.Connection, name: str) -> None:
    """The fleet has lost it: what uses it is to be sent, and asked for, again."""
    db.execute("UPDATE blobs SET stored_s = NULL WHERE name = ?", (name,))
    db.execute(
        "UPDATE samples SET stored_s = NULL, checked_s = NULL "
        "WHERE seq IN (SELECT seq FROM uses WHERE blob = (SELECT id FROM blobs WHERE name = ?))",
        (name,),
    )
