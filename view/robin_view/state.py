"""What all pages share."""

from __future__ import annotations

from dataclasses import dataclass

from robin_view.changes import Audit
from robin_view.pages import Pages
from robin_view.security import Sessions
from robin_view.settings import ViewSettings
from robin_view.sources import Sources


@dataclass(frozen=True)
class ViewState:
    """One running page. Safe to use from several threads."""

    sources: Sources
    settings: ViewSettings
    sessions: Sessions
    pages: Pages
    audit: Audit
