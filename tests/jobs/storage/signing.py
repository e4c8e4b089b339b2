"""Signs requests that no client would send."""

import http.client
import socket

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

UNSIGNED = "UNSIGNED-PAYLOAD"
TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


class Signer(S3SigV4Auth):
    """botocore's signer, told what to say of the body."""

    def __init__(self, pair, payload):
        super().__init__(Credentials(pair.access_key, pair.secret), "s3", "us-east-1")
        self._said = payload

    def payload(self, request):
        return self._said


def signed(server, pair, method, path, *, payload=UNSIGNED, **headers):
    """The headers with which a request is signed; an underscore in a name stands for a hyphen."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    request = AWSRequest(method=method, url=f"{server.url}/api/cloud/storage{path}", headers=given)
    Signer(pair, payload).add_auth(request)
    return dict(request.headers.items())


def exchange(server, method, path, headers, body=b"", *, closes=False):
    """Send a request byte by byte as given and return status and body of the answer; `closes` ends sending after the body."""
    lines = [f"{method} /api/cloud/storage{path} HTTP/1.1", f"Host: {':'.join(map(str, server.address))}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection(server.address, 30) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        if closes:
            connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection, method=method)
        response.begin()
        return response.status, response.read()


def chunked(*pieces):
    """HTTP's own chunks, with no length in the headers."""
    return b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in [*pieces, b""])
