"""A device comes with its certificate: those before it end, and it gets the next one if it asks.

The old one holds until the new one was used, so that an answer that is lost on its way locks nobody
out; and no longer, so that there are never two for good.
"""

from __future__ import annotations

from datetime import timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from skyreid.contract.errors import InputError
from skyreid.server.certs import mosquitto
from skyreid.server.certs.authority import Authority, entry_of, key_of_request, utc_now
from skyreid.server.certs.key_files import pem

ANSWERS_MAX = 16
"""So many times one certificate is renewed: whoever asks more often is no device of ours."""


def renew(
    authority: Authority, der: bytes, csr: bytes | None, days: float
) -> tuple[str, bytes | None]:
    """Take note that a certificate is used, and sign the next one.

    Args:
        authority: whose it is.
        der: the certificate, as the handshake proved it.
        csr: request for the next one, PEM; None = none is asked for.
        days: for which that lives.

    Returns:
        the device's name, and the new certificate in PEM where one was asked for

    Raises:
        InputError: it is not a device's, or is no more; the request cannot be used.
    """
    shown = x509.load_der_x509_certificate(der)
    key = None if csr is None else key_of_request(csr)
    serial, at = f"{shown.serial_number:x}", utc_now().isoformat()
    with authority.changing() as state:
        listed = state["certificates"] = [c for c in state["certificates"] if c["end"] >= at]
        number = next((n for n, c in enumerate(listed) if c["serial"] == serial), None)
        if number is None or "revoked" in listed[number]:
            raise InputError("the certificate is none of a device here, or was taken back")
        mine = listed[number]
        name = str(mine["name"])
        common = shown.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if [each.value for each in common] != [name] or name == authority.server_name:
            raise InputError(f"certificate {serial} is not a device's")
        others = [c for c in listed if c["name"] == name and "revoked" not in c and c is not mine]
        # Those before it it replaced; an answer of before was lost on its way if it asks again.
        lost = [c for c in others if key is not None and c.get("of") == serial]
        over = [c for c in others if listed.index(c) < number] + lost
        for each in over:
            each["revoked"] = at
        signed = None
        if key is not None:
            if mine.get("renewals", 0) >= ANSWERS_MAX:
                raise InputError(f"device {name!r}: renewed too often; certs device makes a token")
            mine["renewals"] = mine.get("renewals", 0) + 1
            usage = ExtendedKeyUsageOID.CLIENT_AUTH
            made = authority.make_certificate(name, key, usage, timedelta(days=days))
            listed.append({**entry_of(name, made), "of": serial})
            signed = pem(made)
    if over:
        authority.write_list()
        mosquitto.reload(authority)
    return name, signed
