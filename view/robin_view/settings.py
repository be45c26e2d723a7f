"""How the page is served, and who may use it."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError

LEAST_TOKEN = 16


class ViewSettings(StrictConfig):
    """Loopback needs nothing; any other address needs a token, or certificates of those who may connect."""

    host: str = Field("127.0.0.1", min_length=1, max_length=255, description="Address that is listened at.")
    port: int = Field(8780, ge=0, le=65_535, description="TCP port; 0 takes a free one.")
    names: tuple[str, ...] = Field((), description="Names of this machine that browsers may ask for, beside addresses.")
    token: str = Field("", max_length=512, description="Word that lets people in; empty: nobody is asked.")
    allow_changes: bool = Field(False, description="Whether anything can be changed from the page.")
    audit: Path = Field(Path("audit.jsonl"), description="Where each change is written down.")
    tls_cert: Path | None = Field(None, description="Certificate of this server, PEM.")
    tls_key: Path | None = Field(None, description="Its private key, PEM.")
    tls_clients: Path | None = Field(None, description="Authorities whose clients may connect, PEM: mutual TLS.")

    @property
    def loopback(self) -> bool:
        """Whether nobody but this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def secure(self) -> bool:
        return self.tls_cert is not None

    def checked(self) -> ViewSettings:
        """Itself, where it is safe to start. Raises RobinError OPTION_INVALID, INPUT_MISSING."""
        if self.token and len(self.token) < LEAST_TOKEN:
            raise RobinError(Code.OPTION_INVALID, f"the token has {len(self.token)} characters; {LEAST_TOKEN} or more")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise RobinError(Code.OPTION_INVALID, "--tls-cert and --tls-key belong together")
        if self.tls_clients is not None and not self.secure:
            raise RobinError(Code.OPTION_INVALID, "--tls-clients needs --tls-cert and --tls-key")
        for path in (self.tls_cert, self.tls_key, self.tls_clients):
            if path is not None and not path.is_file():
                raise RobinError(Code.INPUT_MISSING, f"{path}: no such file")
        if not self.loopback and not self.token and self.tls_clients is None:
            text = f"{self.host} can be reached from elsewhere: give --token, or --tls-clients for mutual TLS"
            raise RobinError(Code.OPTION_INVALID, text)
        return self
