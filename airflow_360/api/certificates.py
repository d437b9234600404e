"""Problems with TLS certificates, and advice for each.

This file is separate because a wrong certificate is not a failed request: retries do not help, and the user
must know which field of the connection to change. It imports neither ``requests`` nor ``urllib3``.
"""

from __future__ import annotations

import ssl

__all__ = ["certificate_problem"]

#: OpenSSL's error numbers for refused certificates.
EXPIRED = (9, 10)  # not yet valid, no longer valid
OTHER_HOST = (62, 64)  # by name, by IP address

NO_CHECK = (
    "`verify` = false would turn the check off: anybody between this machine and the server could then read "
    "the API key and the scans."
)


def certificate_problem(error: BaseException, server: str) -> str | None:
    """Describe a problem with the certificates and its fix; return None if the error is about something else.

    :param error: the reason why a request got no reply.
    :param server: the server's URL.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _refused(error, server)
    if isinstance(error, ssl.SSLError) and getattr(error, "library", None) == "X509":
        return _unusable_file(f"it contains no certificate: {error.reason}")
    if type(error) is OSError and error.errno is None and "TLS CA certificate" in str(error):
        return _unusable_file(str(error))  # raised by requests if there is no such file
    return None


def _refused(error: ssl.SSLCertVerificationError, server: str) -> str:
    said = str(error.verify_message).rstrip(".") or "the check failed"
    if error.verify_code in EXPIRED:
        return (
            f"the TLS certificate of {server} is not valid today ({said}). Nothing was sent. Renew the "
            "certificate on the server, or correct the clock of this machine. A CA file in `verify` does not "
            f"help. {NO_CHECK}"
        )
    if error.verify_code in OTHER_HOST:
        return (
            f"the TLS certificate of {server} is for another host ({said}). Nothing was sent. Set the "
            "connection's host to a name in the certificate, or install a certificate for this name on the "
            f"server. A CA file in `verify` does not help. {NO_CHECK}"
        )
    return (
        f"the TLS certificate of {server} is not trusted ({said}). Nothing was sent. Set the connection's "
        "extra field `verify` to the path of the CA file that the certificate comes from. For a self-signed "
        "certificate this is the file of the certificate itself, and behind a proxy that inspects TLS, the "
        f"proxy's CA file. {NO_CHECK}"
    )


def _unusable_file(reason: str) -> str:
    return (
        f"the CA file cannot be used ({reason}). Nothing was sent. Set the connection's extra field `verify` "
        "to the path of a file with certificates in PEM format, or to true. With true, the variables "
        "REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE of the worker's environment count."
    )
