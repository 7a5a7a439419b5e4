"""A gRPC server with a health service, which knows some services by what they are.

It is hand-made, byte by byte: Debian has gRPC's Python and not its health package. It
prints its ports: with a health service, without one, and with one in TLS. It ends with
its standard input. (Named grpc_health.py it would be what gRPC imports by itself.)"""

import sys
import time
from concurrent import futures

import grpc

ANSWERS = {b"": b"\x08\x01", b"up": b"\x08\x01", b"down": b"\x08\x02", b"odd": b"", b"new": b"\x08\x03"}


def check(request, context):
    service = request[2:]
    if service == b"busy":
        context.abort(grpc.StatusCode.UNAVAILABLE, "busy")
    if service == b"hangs":
        time.sleep(9)
    if service not in ANSWERS:
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return ANSWERS[service]


def server(health):
    served = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    if health:
        handler = grpc.unary_unary_rpc_method_handler(check)
        served.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),)
        )
    return served


healthy, plain = server(True), server(False)
ports = [healthy.add_insecure_port("127.0.0.1:0"), plain.add_insecure_port("127.0.0.1:0")]
key, certificate = (open(name, "rb").read() for name in sys.argv[1:3])
ports.append(healthy.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)])))
healthy.start()
plain.start()
print(*ports, flush=True)
sys.stdin.read()
