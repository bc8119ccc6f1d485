"""Why no connection to a language model's server comes about: each cause with its own remedy."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.http_llm import FakeServer
from support.llm_services import a_request

from bigpe.services.core.errors import LlmError, TransientLlmError
from bigpe.services.llm.config import load_client
from bigpe.services.llm.service import LlmConfig, LlmService
from bigpe.services.store.call_cache import InMemoryCallCache


async def failure(url: str, **config: str) -> LlmError:
    """The error of a request to this address."""
    named = {"provider": "openai-compatible", "model": "m", "base_url": url} | config
    wanted = LlmConfig.model_validate(named)
    llm = LlmService(load_client(wanted), InMemoryCallCache(), config=wanted)
    try:
        with pytest.raises(LlmError) as caught:
            await llm.ask(a_request())
    finally:
        await llm.close()
    assert url in str(caught.value)
    return caught.value


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def self_signed(tmp_path: Path) -> Iterator[str]:
    """The address of a server whose certificate nobody signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    secret = key.private_bytes(
        form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path / "server.pem"
    file.write_bytes(made.public_bytes(form) + secret)
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_certificate_that_is_not_trusted_is_final(self_signed: str) -> None:
    error = await failure(self_signed)
    assert not error.transient
    assert "certificate" in str(error) and "SSL_CERT_FILE" in str(error)


async def test_plain_http_behind_https_is_final(server: FakeServer) -> None:
    error = await failure(server.url.replace("http:", "https:"))
    assert not error.transient
    assert "http://" in str(error)


async def test_an_unknown_host_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = await failure("http://models.invalid/v1")
    assert isinstance(error, TransientLlmError)
    assert "host is unknown" in str(error)


async def test_a_refused_connection_names_how_to_start_the_server() -> None:
    gone = FakeServer()
    gone.close()
    error = await failure(gone.url, provider="ollama")
    assert isinstance(error, TransientLlmError)
    assert "is the server running" in str(error) and "ollama serve" in str(error)
