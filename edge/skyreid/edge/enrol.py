"""``skyreid-edge enrol TOKEN``: from a bare device to a known one, in one command.

The private key is made here and never leaves. It is written before anything is asked, so that an
answer that was lost on the way is asked for again with the same key, which the token still allows.
"""

from __future__ import annotations

import http.client
import ssl
from base64 import b64decode
from pathlib import Path

from skyreid.contract import files
from skyreid.contract.enrolment import (
    MAX_BYTES,
    PATH,
    EnrolmentRequest,
    Token,
    decode_answer,
    decode_token,
)
from skyreid.contract.errors import InputError, MessageError

TIMEOUT_S = 20.0


def enrol(text: str, folder: Path) -> Token:
    """Write ``device.key``, ``device.pem`` and ``ca.pem`` into a folder; what the token said.

    Raises:
        InputError: the token is none, the service cannot be reached or refuses, or a file is there.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    token = decode_token(text)
    key_file, own_file = folder / "device.key", folder / "device.pem"
    if own_file.exists():
        raise InputError(f"{own_file} exists: this device is enrolled; remove it, or give --out")
    if not key_file.exists():
        made = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        files.write(key_file, made, mode=0o600)
    try:
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        authority = x509.load_der_x509_certificate(b64decode(token.ca))
    except (OSError, ValueError) as error:
        raise InputError(f"{key_file}, or the token's authority: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{key_file} is no key of an elliptic curve: remove it")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, token.device)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    asked = EnrolmentRequest(secret=token.secret, csr=csr.public_bytes(pem).decode())
    ca = authority.public_bytes(pem)
    answer = _ask(token, ca.decode(), asked.model_dump_json().encode())
    try:
        signed = decode_answer(answer).certificate.encode()
        ours = x509.load_pem_x509_certificate(signed)
        ours.verify_directly_issued_by(authority)
    except (MessageError, ValueError, TypeError) as error:
        raise InputError(f"{token.host} answered with no certificate of its authority") from error
    if ours.public_key() != key.public_key():
        raise InputError(f"{token.host} answered with the certificate of another key")
    files.write(folder / "ca.pem", ca)
    files.write(own_file, signed)
    return token


def _ask(token: Token, ca: str, body: bytes) -> bytes:
    context = ssl.create_default_context(cadata=ca)
    where = f"{token.host}:{token.port}"
    link = http.client.HTTPSConnection(token.host, token.port, timeout=TIMEOUT_S, context=context)
    try:
        link.request("POST", PATH, body, {"Content-Type": "application/json"})
        said = link.getresponse()
        answer = said.read(MAX_BYTES)
    except ssl.SSLCertVerificationError as error:
        raise InputError(f"{where} is not who the token names: {error.verify_message}") from error
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"{where} cannot be reached: {error}; is certs serve running?") from error
    finally:
        link.close()
    if said.status != 200:
        why = answer[:300].decode("utf-8", "replace")
        raise InputError(f"{where} refuses: {why if why.isprintable() else said.status}")
    return answer
