"""After the alias move: the gateway is seen to follow, to lag, or not to be there."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from orrery.releasing import served_version, wait_until_served
from orrery.settings import GatewaySettings


@pytest.fixture
def gateway():
    """A gateway that serves version 1 at first, and the versions of `answers` from then on."""

    class Handler(BaseHTTPRequestHandler):
        answers, keys, status = ["1"], [], 200

        def do_GET(self):
            version = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            self.keys.append(self.headers.get("authorization"))
            content = json.dumps({"models": [{"use_case": "toy", "version": version}]}).encode()
            self.send_response(self.status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    Handler.port = server.server_port
    yield Handler
    server.shutdown()
    server.server_close()


@pytest.fixture
def configured(settings, gateway):
    return settings.model_copy(update={"gateway": GatewaySettings(port=gateway.port)})


def test_the_gateway_is_seen_to_follow(configured, gateway):
    gateway.answers = ["1", None, "2"]
    served, waited = wait_until_served("toy", "2", configured)
    assert served == "serving"
    assert 0 < waited < 5


def test_a_gateway_that_lags_is_waited_for_no_longer_than_asked(configured):
    assert wait_until_served("toy", "2", configured, seconds=0.3)[0] == "waiting"


def test_no_gateway_ends_the_wait_at_once(settings):
    nowhere = settings.model_copy(update={"gateway": GatewaySettings(port=9)})
    assert wait_until_served("toy", "2", nowhere)[0] == "no gateway"


def test_the_client_key_is_sent(configured, gateway):
    configured.secrets_folder.mkdir(parents=True)
    (configured.secrets_folder / "client.key").write_text("ork_1\n")
    assert served_version(configured, "toy") == "1"
    assert served_version(configured, "other") == ""
    assert gateway.keys == ["Bearer ork_1", "Bearer ork_1"]
    gateway.status = 401
    assert served_version(configured, "toy") is None
