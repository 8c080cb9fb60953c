"""What tests of access share: clocks that stand until moved, and an identity provider that signs and publishes keys."""

import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from configs.access import IdentityProvider

ISSUER, AUDIENCE = "https://login.example/", "mlway"


class StandingClock:
    """A clock that moves when it is told to."""

    def __init__(self, at: float = 1_000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


class KeyServer:
    """An identity provider on loopback: serves `answer` as its JWKS, and signs with its private keys."""

    def __init__(self) -> None:
        self.requests, self.status, self.private = 0, 200, {}
        self.answer: bytes = b""
        self.add("rsa", rsa.generate_private_key(65537, 2048), "RS256")
        self.add("ec", ec.generate_private_key(ec.SECP256R1()), "ES256")
        self.add("ed", ed25519.Ed25519PrivateKey.generate(), "EdDSA")
        self.publish("rsa", "ec", "ed")
        self._start(0)

    def add(self, key_id: str, private: Any, algorithm: str) -> None:
        """A new private key, which is not published yet."""
        self.private[key_id] = (private, algorithm)

    def jwk(self, key_id: str) -> dict[str, Any]:
        """The public half."""
        private, algorithm = self.private[key_id]
        kinds: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
        public: dict[str, Any] = kinds[algorithm].to_jwk(private.public_key(), as_dict=True)
        return public | {"kid": key_id, "use": "sig"}

    def publish(self, *key_ids: str, others: tuple[Any, ...] = ()) -> None:
        """Serve these keys from now on."""
        self.answer = json.dumps({"keys": [*map(self.jwk, key_ids), *others]}).encode()

    def token(self, key_id: str = "rsa", headers: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """A signed token, valid for five minutes; a claim that is None is left out."""
        private, algorithm = self.private[key_id]
        return jwt.encode(claims_with(**claims), private, algorithm, {"kid": key_id, **(headers or {})})

    def provider(self, **changes: Any) -> IdentityProvider:
        """What an environment would say of it."""
        address = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": f"http://127.0.0.1:{self.port}/keys"}
        return IdentityProvider.model_validate(address | changes)

    def stop(self) -> None:
        """Be gone."""
        self.is_running = False
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def restart(self) -> None:
        """Be back, at the same address."""
        self._start(self.port)

    def _start(self, port: int) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.answer)))
                self.end_headers()
                self.wfile.write(outer.answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.is_running = True


def claims_with(**changes: Any) -> dict[str, Any]:
    """Claims of a good token, with changes; None leaves one out."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "iat": now, "exp": now + 300}
    claims |= {"scope": "openid flight_delay:predict"} | changes
    return {name: value for name, value in claims.items() if value is not None}
