"""``skyreid-edge enrol TOKEN``: from a bare device to a known one, in one command.

The private key is made here and never leaves. It is written before anything is asked, so that an
answer that was lost on the way is asked for again with the same key, which the token still allows.
"""

from __future__ import annotations

import ssl
from base64 import b64decode
from pathlib import Path

from skyreid.contract import files
from skyreid.contract.enrolment import (
    PATH,
    EnrolmentAnswer,
    EnrolmentRequest,
    Token,
    decode,
    decode_token,
)
from skyreid.contract.errors import InputError, MessageError, reason
from skyreid.contract.sealed import parse_public_key
from skyreid.edge.delivery.renewal import check_signed, post


def enrol(text: str, folder: Path) -> Token:
    """Write ``device.key``, ``device.pem``, ``ca.pem`` and ``seal.pub``; what the token said.

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
        raise InputError(
            f"{key_file}, or the token's authority: {reason(error, key_file)}"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{key_file} is no key of an elliptic curve: remove it")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, token.device)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    asked = EnrolmentRequest(secret=token.secret, csr=csr.public_bytes(pem).decode())
    ca = authority.public_bytes(pem)
    context = ssl.create_default_context(cadata=ca.decode())
    answer = post(token.host, token.port, PATH, asked.model_dump_json().encode(), context)
    try:
        said = decode(EnrolmentAnswer, answer)
        if said.seal:
            parse_public_key(said.seal.encode())
    except (MessageError, ValueError) as error:
        raise InputError(f"{token.host} answered with no certificate of its authority") from error
    signed = said.certificate.encode()
    check_signed(signed, authority, key.public_key(), name, token.host)
    files.write(folder / "ca.pem", ca)
    if said.seal:
        files.write(folder / "seal.pub", said.seal.encode())
    files.write(own_file, signed)
    return token
