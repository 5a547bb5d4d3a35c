"""How a bare device becomes a known one, and stays one: a token by hand, requests and answers.

The token has everything that a device needs and nothing that it could be without: whom to ask, the
authority that it may believe, who it is, and a secret that works once. The private key is born on
the device and stays there. Later the certificate that it has is its token: it asks for the next one
with it, and whether the site's key to seal to is another one.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TypeVar

from pydantic import Field, ValidationError, field_validator

from skyreid.contract.broker import broker_address
from skyreid.contract.errors import InputError, MessageError
from skyreid.contract.settings import Section
from skyreid.contract.site import Identifier

PATH, RENEWAL_PATH = "/enrol", "/renew"
MAX_BYTES = 16_384
"""Of a request or an answer."""
_MARK = "skyreid1."


class Token(Section):
    """What an operator hands to a device."""

    host: str = Field(min_length=1, max_length=253)
    """Of the service that signs."""
    port: int = Field(ge=1, le=65_535)
    broker: str
    """As ``mqtt.url``."""
    device: Identifier
    secret: str = Field(min_length=32, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")
    ca: str = Field(max_length=4096)
    """Certificate of the authority, DER in base 64: nobody else is believed."""

    @field_validator("broker")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        broker_address(value)
        return value


class EnrolmentRequest(Section):
    """A device's request."""

    secret: str = Field(max_length=64)
    csr: str = Field(max_length=8192)
    """PKCS #10 in PEM; its names are not asked for, its key is."""


class EnrolmentAnswer(Section):
    """What it gets."""

    certificate: str = Field(max_length=8192)
    """PEM."""
    seal: str = Field("", max_length=1024)
    """The site's public key, to which devices seal, PEM; empty = it has none."""


class RenewalRequest(Section):
    """What a device asks that shows its certificate."""

    csr: str = Field("", max_length=8192)
    """As in `EnrolmentRequest`; empty = no certificate is asked for."""


class RenewalAnswer(Section):
    """What it gets."""

    certificate: str = Field("", max_length=8192)
    """PEM; empty where none was asked for."""
    seal: str = Field("", max_length=1024)
    """As in `EnrolmentAnswer`."""


def address_of(host: str, port: int) -> str:
    """``HOST:PORT`` of a service, as settings have it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def service_of(address: str) -> tuple[str, int]:
    """Inverse of `address_of`; raises ValueError for what is none."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s/:@\[\]]+):([0-9]{1,5})", address)
    if found is None or not 1 <= int(found[2]) <= 65_535:
        raise ValueError("HOST:PORT of skyreid-server certs serve")
    return found[1].strip("[]"), int(found[2])


def encode_token(token: Token) -> str:
    """One word, to be copied."""
    return _MARK + urlsafe_b64encode(token.model_dump_json().encode()).decode().rstrip("=")


def decode_token(text: str) -> Token:
    """Inverse of `encode_token`.

    Raises:
        InputError: it is no token; it is not shown.
    """
    head, body = text.strip()[: len(_MARK)], text.strip()[len(_MARK) :]
    try:
        if head != _MARK or len(body) > MAX_BYTES:
            raise ValueError
        return Token.model_validate_json(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, ValidationError):
        raise InputError(
            f"the token is none, or part of it is missing: it begins with {_MARK} and is one word; "
            "skyreid-server certs device makes one"
        ) from None


S = TypeVar("S", bound=Section)


def decode(kind: type[S], body: bytes) -> S:
    """A request or an answer as it came.

    Raises:
        MessageError: it is none of that kind.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError:
        raise MessageError("json", f"no {kind.__name__}") from None
