"""What all pages share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from robin_view.archive.archive import Archive
from robin_view.changes import Audit
from robin_view.decision.worker import Worker
from robin_view.live.stream import Streams
from robin_view.pages import Pages
from robin_view.search.looks import Looks
from robin_view.security import Sessions
from robin_view.settings import ViewSettings
from robin_view.sources import Sources

if TYPE_CHECKING:
    from robin_fleet.folder import Fleet


@dataclass(frozen=True)
class ViewState:
    """One running page. Safe to use from several threads. fleet: the aggregator, open; None where there is none."""

    sources: Sources
    settings: ViewSettings
    sessions: Sessions
    pages: Pages
    audit: Audit
    archive: Archive
    fleet: Fleet | None
    worker: Worker
    looks: Looks
    streams: Streams
