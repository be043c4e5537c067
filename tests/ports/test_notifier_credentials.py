"""What a Secret adds to the requests: an Authorization, and an authority for the certificate."""

from __future__ import annotations

import ssl

import pytest
from local_cluster import certificates
from ports.sink import receiver


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")
    certificates.make(folder, (), address="127.0.0.1")
    return folder


@pytest.fixture
async def secured(pki):
    """A sink with a certificate of an authority that no system trusts."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pki / "apiserver.crt", pki / "apiserver.key")
    async with receiver(context) as made:
        yield made


async def test_the_authorization_is_read_again_for_each_request(sink, sending, tmp_path):
    (tmp_path / "authorization").write_text("Bearer one\n")
    sender = sending(sink.url, directory=str(tmp_path))
    sender.send(1)
    await sink.until(lambda: sender.delivered == 1)
    (tmp_path / "authorization").write_text("Bearer two\n")
    sender.send(2)
    await sink.until(lambda: sender.delivered == 2)
    assert [each["Authorization"] for each in sink.headers] == ["Bearer one", "Bearer two"]


async def test_a_directory_without_an_authorization_sends_none(sink, sending, tmp_path):
    sender = sending(sink.url, directory=str(tmp_path))
    sender.send(1)
    await sink.until(lambda: sender.delivered == 1)
    assert "Authorization" not in sink.headers[0]


@pytest.mark.parametrize("name", ["authorization", "ca.crt"])
async def test_a_file_that_cannot_be_used_fails_the_attempt_until_it_is_corrected(
    sink, sending, tmp_path, name
):
    bad = {"authorization": "Bearer one\nX-Other: two", "ca.crt": "not PEM"}
    (tmp_path / name).write_text(bad[name])
    sender = sending(sink.url, directory=str(tmp_path))
    sender.send(1)
    await sink.until(lambda: sender.failed["settings"] >= 2)
    assert sink.events == []
    (tmp_path / name).unlink()
    await sink.until(lambda: sender.delivered == 1)


@pytest.mark.survives(
    "Notifications",
    "the certificate of the sink is not trusted",
    "nothing is sent; it is tried again until it is, such as with another `ca.crt`",
)
async def test_nothing_is_sent_to_a_sink_whose_certificate_is_not_trusted(
    secured, sending, pki, tmp_path
):
    (tmp_path / "authorization").write_text("Bearer secret")
    sender = sending(secured.url, directory=str(tmp_path))
    sender.send(1)
    await secured.until(lambda: sender.failed["tls"] >= 2)
    assert secured.headers == []
    (tmp_path / "ca.crt").write_bytes((pki / "ca.crt").read_bytes())
    await secured.until(lambda: sender.delivered == 1)
    assert secured.headers[0]["Authorization"] == "Bearer secret"


async def test_no_message_repeats_the_url_which_may_hold_a_secret(sending, capsys):
    async with receiver() as gone:
        url = gone.url
    sender = sending(f"{url}/T0P-SECRET?key=K3Y")
    sender.send(1)
    await gone.until(lambda: sender.failed["connection"] >= 1)
    printed = "".join(capsys.readouterr())
    assert "notification not delivered" in printed
    assert "T0P-SECRET" not in printed
    assert "K3Y" not in printed
