"""The server as a person starts it: it tells its address, ends when told, and by mutual TLS lets in the certified."""

from __future__ import annotations

import contextlib
import datetime
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from helpers.decision_samples import record_samples


class Authority:
    """Makes certificates for the tests."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._name, self._key = _named(name), ec.generate_private_key(ec.SECP256R1())
        self.file = self._written(name, self._signed(self._name, self._key, True), None)

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        file = self._written(name, self._signed(_named(name), key, False), key)
        return file, file.with_suffix(".key")

    def _signed(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, ca: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        day = datetime.timedelta(days=1)
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)
        made = made.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        return made.sign(self._key, hashes.SHA256())

    def _written(self, name: str, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey | None) -> Path:
        file = self.folder / f"{name}.pem"
        file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        if key is not None:
            kinds = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            file.with_suffix(".key").write_bytes(key.private_bytes(*kinds))
        return file


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@contextlib.contextmanager
def started(*options: str) -> Iterator[str]:
    """``robin view`` on a free port; its address. It must end by itself at SIGTERM, and quickly."""
    command = [sys.executable, "-m", "robin_cli.main", "view", "--port", "0", *options]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        line = server.stderr.readline()
        assert line.startswith("the page is at http"), line
        yield line.split()[-1].rstrip("/").replace("127.0.0.1", "localhost")
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) in (0, -signal.SIGTERM)
        assert "Traceback" not in server.stderr.read()
    finally:
        server.kill()
        server.wait()


def test_only_who_has_a_certificate_is_let_in(tmp_path: Path) -> None:
    record_samples(tmp_path / "run", ("clean",))
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    cert, key = ours.issue("server")
    tls = ("--tls-cert", str(cert), "--tls-key", str(key), "--tls-clients", str(ours.file))
    with started(str(tmp_path / "run"), *tls) as url:

        def asked(client: tuple[Path, Path] | None) -> int:
            context = ssl.create_default_context(cafile=str(ours.file))
            if client is not None:
                context.load_cert_chain(*client)
            return int(urllib.request.urlopen(f"{url}/status", context=context, timeout=20).status)

        assert url.startswith("https://") and asked(ours.issue("tablet")) == 200
        for wrong in (None, theirs.issue("stranger")):
            with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
                asked(wrong)
