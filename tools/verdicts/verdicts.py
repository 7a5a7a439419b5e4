#!/usr/bin/env python3
"""The verdict table: what sick origins do, and what checkers say of them.

    unshare --net --map-root-user python3 tools/verdicts/verdicts.py [--write FILE]

Plays every origin of http_heads.py and http2_frames.py, TLS servers of another age or with broken
certificates, and TCP faults, and asks this tree's program on both drivers,
HAProxy's own check, HAProxy as a proxy, and curl, or gRPC's own client. It fails if a verdict is Up
that neither judge would give, or if a difference has no reason in reasons.py.
Another checker is added as one more function in JUDGES.

Needs: a namespace of its own (it sets packet filter rules), haproxy, curl,
openssl, nft, ip, Debian's python3-grpcio. WATCHFIRE names the program.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

from http2_frames import GRPC, HEADERS, HTTP2, KILLS_HAPROXY
from http_heads import HTTP
from reasons import reason_for

WATCHFIRE = os.environ.get("WATCHFIRE", "target/debug/watchfire")
ADDR, FRONT = "127.77.90.1", "127.77.90.2"
NOTHING, RESET, SILENT, CLOSES = "nothing listens", "reset after the request", "accepts and is silent", "closes at once"


class Case:
    """One origin: how it is called, where it is, and whether it speaks TLS."""

    def __init__(self, group, name, port, tls=None):
        self.group, self.name, self.port, self.tls = group, name, port, tls
        self.says = {}

    def kind(self):
        if self.group in ("HTTP/2", "gRPC"):
            return {"HTTP/2": "h2", "gRPC": "grpc"}[self.group]
        return "https" if self.tls is not None else "http"

    def over_http2(self):
        return self.kind() in ("h2", "grpc")


def serve(port, handle):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((ADDR, port))
    listener.listen(64)

    def one(peer):
        try:
            peer.settimeout(4)
            handle(peer)
        except OSError:
            pass
        peer.close()

    def loop():
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=one, args=(peer,), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()


def request(peer):
    got = b""
    while b"\r\n\r\n" not in got:
        more = peer.recv(4096)
        if not more:
            return None
        got += more
    return got


def answers(data):
    def handle(peer):
        if request(peer) is not None:
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
            peer.recv(100)

    return handle


def resets(peer):
    request(peer)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def is_silent(peer):
    while peer.recv(4096):
        pass


def http_cases(cases):
    port = 9000
    for name, data in HTTP.items():
        serve(port, answers(data))
        cases.append(Case("HTTP", name, port))
        port += 1


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def has_request(got):
    at = len(PREFACE)
    while len(got) >= at + 9:
        if got[at + 3] == HEADERS:
            return True
        at += 9 + int.from_bytes(got[at : at + 3], "big")
    return False


def speaks_http2(hello, rest):
    def handle(peer):
        got, greeted = b"", False
        while not has_request(got):
            more = peer.recv(4096)
            if not more:
                return
            got += more
            if not greeted and got.startswith(PREFACE):
                greeted = True
                peer.sendall(hello)
                if not rest:
                    break
        peer.sendall(rest)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(4096):
            pass

    return handle


def http2_cases(cases):
    for group, origins, first in (("HTTP/2", HTTP2, 9100), ("gRPC", GRPC, 9200)):
        for port, (name, (hello, rest)) in enumerate(origins.items(), first):
            serve(port, speaks_http2(hello, rest))
            cases.append(Case(group, name, port))


def tcp_cases(cases):
    for port, (name, handle) in enumerate(
        [(NOTHING, None), (RESET, resets), (SILENT, is_silent), (CLOSES, lambda peer: None)], 9300
    ):
        if handle:
            serve(port, handle)
        cases.append(Case("TCP", name, port))
    codes = "net-unreachable host-unreachable prot-unreachable port-unreachable net-prohibited host-prohibited admin-prohibited".split()
    rules = ""
    for port, code in enumerate(codes, 9310):
        serve(port, answers(HTTP["plain"]))
        cases.append(Case("ICMP", code, port))
        rules += f"  ip daddr {ADDR} tcp dport {port} reject with icmp type {code}\n"
    rules += f"  ip daddr {ADDR} tcp dport 9320 reject with tcp reset\n  ip daddr {ADDR} tcp dport 9321 drop\n"
    for port, name in ((9320, "reset by a firewall"), (9321, "dropped by a firewall")):
        serve(port, answers(HTTP["plain"]))
        cases.append(Case("ICMP", name, port))
    table = f"table ip verdicts {{\n chain c {{\n  type filter hook input priority 0;\n{rules} }}\n}}\n"
    subprocess.run(["nft", "-f", "-"], input=table, text=True, check=True)


SELF = "req -x509 -nodes -days 9 -subj /CN=origin.test"
NAMED = "-addext subjectAltName=DNS:origin.test"
TLS = {
    # name: (certificate, server's arguments, verified)
    "TLS 1.3, RSA 2048": ("rsa", "", False),
    "TLS 1.2 only": ("rsa", "-tls1_2", False),
    "CBC only": ("rsa", "-tls1_2 -cipher ECDHE-RSA-AES128-SHA", False),
    "static RSA only": ("rsa", "-tls1_2 -cipher AES128-GCM-SHA256", False),
    "DHE only": ("rsa", "-tls1_2 -cipher DHE-RSA-AES256-GCM-SHA384", False),
    "P-521 only": ("rsa", "-tls1_3 -groups P-521", False),
    "TLS 1.1 only": ("rsa", "-tls1_1 -cipher DEFAULT@SECLEVEL=0", False),
    "TLS 1.0 only": ("rsa", "-tls1 -cipher DEFAULT@SECLEVEL=0", False),
    "wants a client certificate": ("rsa", "-Verify 1", False),
    "P-521 key": ("p521", "", False),
    "RSA 1024": ("small", "-cipher DEFAULT@SECLEVEL=0", False),
    "X.509 v1": ("v1", "", False),
    "unknown critical extension": ("odd", "", False),
    "expired, not verified": ("expired", "", False),
    "verified: good": ("rsa", "", True),
    "verified: another name": ("other", "", True),
    "verified: expired": ("expired", "", True),
    "verified: unknown issuer": ("stranger", "", True),
    "verified: self-signed with CA:TRUE, pinned": ("pinned", "", True),
}


def tls_cases(cases, folder, servers):
    def ssl(line):
        subprocess.run(f"openssl {line}", shell=True, check=True, cwd=folder, stderr=subprocess.DEVNULL)

    rsa = "-newkey rsa:2048"
    ssl(f"{SELF} {rsa} {NAMED} -addext basicConstraints=critical,CA:FALSE -keyout rsa.key -out rsa.pem")
    ssl(f"{SELF} {rsa} {NAMED} -keyout pinned.key -out pinned.pem")
    ssl(f"{SELF} {rsa} {NAMED} -keyout stranger.key -out stranger.pem")
    ssl(f"{SELF} {rsa} -addext subjectAltName=DNS:else.test -keyout other.key -out other.pem")
    ssl(f"{SELF} {rsa} {NAMED} -addext 1.2.3.4=critical,ASN1:UTF8String:x -keyout odd.key -out odd.pem")
    ssl(f"{SELF} -newkey rsa:1024 -keyout small.key -out small.pem")
    ssl(f"{SELF} -newkey ec -pkeyopt ec_paramgen_curve:P-521 {NAMED} -keyout p521.key -out p521.pem")
    ssl("req -new -newkey rsa:2048 -nodes -keyout v1.key -subj /CN=origin.test -out v1.csr")
    ssl("x509 -req -in v1.csr -signkey v1.key -days 9 -out v1.pem")
    open(f"{folder}/ca.conf", "w").write(
        "[ca]\ndefault_ca=c\n[c]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\n"
        "policy=p\nx509_extensions=e\n[p]\ncommonName=supplied\n[e]\nsubjectAltName=DNS:origin.test\n"
    )
    open(f"{folder}/index", "w")
    open(f"{folder}/serial", "w").write("01")
    ssl("req -new -newkey rsa:2048 -nodes -keyout expired.key -subj /CN=origin.test -out expired.csr")
    ssl(
        "ca -batch -selfsign -config ca.conf -keyfile expired.key -in expired.csr -out expired.pem "
        "-startdate 20200101000000Z -enddate 20210101000000Z -notext"
    )
    with open(f"{folder}/trusted.pem", "w") as trusted:
        for name in ("rsa", "pinned", "other", "expired"):
            trusted.write(open(f"{folder}/{name}.pem").read())
    for port, (name, (cert, arguments, verified)) in enumerate(TLS.items(), 9400):
        line = f"openssl s_server -www -quiet -accept {ADDR}:{port} -cert {cert}.pem -key {cert}.key {arguments}"
        servers.append(
            subprocess.Popen(line.split(), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        cases.append(Case("TLS", name, port, tls=verified))


HEALTH = "/grpc.health.v1.Health/Check"


def haproxy(cases, folder):
    lines = [
        f"global\n maxconn 500\n stats socket {folder}/h.sock mode 600\ndefaults\n mode http\n"
        " timeout connect 2s\n timeout client 4s\n timeout server 4s\n timeout check 2s"
    ]
    for case in cases:
        if case.name in KILLS_HAPROXY:
            case.says["haproxy check"] = case.says["haproxy forwards"] = (False, "crashes")
            continue
        tls = ""
        if case.tls is not None:
            tls = " ssl sni str(origin.test) check-sni origin.test "
            tls += f"verify required ca-file {folder}/trusted.pem verifyhost origin.test" if case.tls else "verify none"
        if case.over_http2():
            tls = " proto h2"
        target = f" server s {ADDR}:{case.port}{tls}"
        send = "meth GET uri / ver HTTP/1.1 hdr Host origin.test hdr Connection close"
        if case.kind() == "h2":
            send = "meth GET uri / ver HTTP/2 hdr Host origin.test"
        if case.kind() == "grpc":
            send = f"meth POST uri {HEALTH} ver HTTP/2 hdr Host origin.test hdr Content-Type application/grpc"
        lines.append(
            f"backend check{case.port}\n option httpchk\n"
            f" http-check send {send}\n"
            f" http-check expect status 200-399\n{target} check inter 1s fall 1 rise 1\n"
            f"frontend f{case.port}\n bind {FRONT}:{case.port}{' proto h2' if case.kind() == 'grpc' else ''}\n default_backend forward{case.port}\n"
            f"backend forward{case.port}\n{target}"
        )
    open(f"{folder}/h.cfg", "w").write("\n".join(lines) + "\n")
    log = open(f"{folder}/h.log", "w")
    return subprocess.Popen(["haproxy", "-f", f"{folder}/h.cfg"], stdout=log, stderr=subprocess.STDOUT)


def ask_haproxy(cases, folder):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(f"{folder}/h.sock")
    peer.sendall(b"show stat\n")
    text = b""
    while more := peer.recv(65536):
        text += more
    rows = [line for line in text.decode().splitlines() if line]
    header = rows[0].lstrip("# ").split(",")
    for row in rows[1:]:
        row = dict(zip(header, row.split(",")))
        for case in cases:
            if row["svname"] == "s" and row["pxname"] == f"check{case.port}":
                state = row["check_status"].removeprefix("* ")
                case.says["haproxy check"] = (row["status"] == "UP", state)


def ask_curl(case, addr, folder, forwarded):
    scheme = "https" if case.tls is not None and not forwarded else "http"
    url = f"{scheme}://origin.test:{case.port}/"
    how = ["--cacert", f"{folder}/trusted.pem"] if case.tls else ["-k"]
    line = ["curl", "-s", "-m", "4", "-o", "/dev/null", "-w", "%{http_code}", *how]
    if case.over_http2() and not forwarded:
        line.append("--http2-prior-knowledge")
    line += ["--resolve", f"origin.test:{case.port}:{addr}", url]
    done = subprocess.run(line, capture_output=True, text=True)
    status = int(done.stdout or 0)
    good = done.returncode == 0 and 200 <= status <= 399
    return good, f"{status}" if done.returncode == 0 else f"error {done.returncode}"


# Debian's interpreter has Debian's gRPC. It is up where the answer is SERVING.
GRPC_CLIENT = """
import sys, grpc
call = grpc.insecure_channel(sys.argv[1]).unary_unary(sys.argv[2])
try:
    said = call(b"", timeout=4)
    print(said[1] if said[:1] == b"\\x08" and len(said) > 1 else 0)
except grpc.RpcError as error:
    print(error.code().name)
"""


def ask_grpc(case, addr):
    line = ["/usr/bin/python3", "-c", GRPC_CLIENT, f"{addr}:{case.port}", HEALTH]
    said = subprocess.run(line, capture_output=True, text=True).stdout.strip()
    return said == "1", said.lower()


def ask_watchfire(case, backend, folder):
    line = [WATCHFIRE, "check", f"{case.kind()}://{ADDR}:{case.port}/", "--json"]
    line += ["--timeout", "2s", "--backend", backend, "--host", "origin.test"]
    if case.tls:
        line += ["--roots", f"{folder}/trusted.pem"]
    elif case.tls is not None:
        line.append("--no-verify")
    done = subprocess.run(line, capture_output=True, text=True)
    said = json.loads(done.stdout)
    return said["outcome"] == "pass", said["reason"] if said["outcome"] == "fail" else said["outcome"]


JUDGES = ["watchfire io_uring", "watchfire epoll", "haproxy check", "haproxy forwards", "curl"]


def ask_all(case, folder):
    case.says["watchfire io_uring"] = ask_watchfire(case, "io_uring", folder)
    case.says["watchfire epoll"] = ask_watchfire(case, "epoll", folder)
    if case.kind() == "grpc":
        case.says["haproxy forwards"] = ask_grpc(case, FRONT)
        case.says["curl"] = ask_grpc(case, ADDR)
        return
    if "haproxy forwards" not in case.says:
        case.says["haproxy forwards"] = ask_curl(case, FRONT, folder, True)
    case.says["curl"] = ask_curl(case, ADDR, folder, False)


def table(cases):
    lines, wrong = [], []
    for group in dict.fromkeys(case.group for case in cases):
        client = "gRPC's client" if group == "gRPC" else "curl"
        lines += [f"\n## {group}\n", f"| origin | watchfire | HAProxy's check | through HAProxy | {client} | difference |"]
        lines.append("| --- | --- | --- | --- | --- | --- |")
        for case in (case for case in cases if case.group == group):
            ours, epoll = case.says["watchfire io_uring"], case.says["watchfire epoll"]
            judges = [case.says[judge] for judge in JUDGES[2:]]
            differs = any(good != ours[0] for good, _ in judges)
            reason = reason_for(group, case.name, ours[0], [good for good, _ in judges]) if differs else ""
            if ours[0] and not any(good for good, _ in judges):
                wrong.append(f"{case.name}: Up, and no judge says so")
            if ours[0] != epoll[0]:
                wrong.append(f"{case.name}: {ours} on io_uring, {epoll} on epoll")
            if differs and not reason:
                wrong.append(f"{case.name}: {ours}, judges {judges}, and no reason")
            ours_text = mark(ours) if ours == epoll else f"{mark(ours)}, epoll {mark(epoll)}"
            lines.append(f"| {case.name} | {ours_text} | {' | '.join(mark(judge) for judge in judges)} | {reason} |")
    return "\n".join(lines) + "\n", wrong


def mark(said):
    good, word = said
    return f"{'up' if good else 'down'} `{word}`"


def main():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    folder = tempfile.mkdtemp(prefix="verdicts-", dir="/dev/shm")
    cases, servers = [], []
    try:
        http_cases(cases)
        http2_cases(cases)
        tcp_cases(cases)
        tls_cases(cases, folder, servers)
        time.sleep(1)
        servers.append(haproxy(cases, folder))
        time.sleep(8)
        ask_haproxy(cases, folder)
        threads = []
        for case in cases:
            threads.append(threading.Thread(target=ask_all, args=(case, folder)))
            threads[-1].start()
            if len(threads) % 4 == 0:
                for thread in threads:
                    thread.join()
        for thread in threads:
            thread.join()
    finally:
        for server in servers:
            server.terminate()
            server.wait()
        shutil.rmtree(folder)
    text, wrong = table(cases)
    if "--write" in sys.argv:
        path = sys.argv[sys.argv.index("--write") + 1]
        head = open(path).read().split("\n## ")[0] if os.path.exists(path) else "# Verdicts\n"
        open(path, "w").write(head.rstrip("\n") + "\n" + text)
    else:
        print(text)
    print(f"{len(cases)} origins, {len(wrong)} unexplained", *wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
