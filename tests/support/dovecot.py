"""A real Dovecot on loopback ports, in a folder of its own, without root's rights.

Any user, password "secret".
"""

import base64
import datetime as dt
import hashlib
import hmac
import ipaddress
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from imapclient import IMAPClient

BINARY = shutil.which("dovecot", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
PASSWORD = "secret"
BEYOND_ASCII = "two wörds@example.org", 'päss "word\\'
ALL, UIDPLUS, BARE = (
    "127.0.0.1",
    "127.0.0.2",
    "127.0.0.3",
)  # by address: all capabilities, UIDPLUS only, none
JWT_KEY = b"only the tests know this"
NOBODY = 65534

CONFIG = """
base_dir = {root}/run
state_dir = {root}/state
log_path = {root}/log
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = 1
protocols = imap
disable_plaintext_auth = no
ssl = yes
ssl_cert = <{root}/cert.pem
ssl_key = <{root}/key.pem
auth_mechanisms = plain login xoauth2
auth_failure_delay = 0
auth_username_chars =
mail_location = maildir:{root}/mail/%u
mail_fsync = never
mail_plugins = acl
plugin {{
  acl = vfile
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    address = 127.0.0.1 127.0.0.2 127.0.0.3
    port = {port}
  }}
  inet_listener imaps {{
    address = 127.0.0.1
    port = {tls_port}
  }}
}}
passdb {{
  driver = oauth2
  mechanisms = xoauth2
  args = {root}/oauth2.conf
}}
passdb {{
  driver = passwd-file
  mechanisms = plain login
  args = {root}/users
}}
passdb {{
  driver = static
  mechanisms = plain login
  args = password=secret
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={root}/mail/%u
}}
local 127.0.0.2 {{
  protocol imap {{
    imap_capability = IMAP4rev1 UIDPLUS
  }}
}}
local 127.0.0.3 {{
  protocol imap {{
    imap_capability = IMAP4rev1
  }}
}}
"""

OAUTH2 = """
introspection_mode = local
local_validation_key_dict = fs:posix:prefix={root}/keys/
username_attribute = sub
"""


class Dovecot:
    """A Dovecot server; `start`, `kill` and `start` again keep ports and mail."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port, self.tls_port = _find_free_port(), _find_free_port()
        self.certificate = root / "cert.pem"
        self._names = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._as = NOBODY if os.geteuid() == 0 else os.geteuid()  # Dovecot never opens mail as root
        self._group = NOBODY if os.geteuid() == 0 else os.getegid()
        self._configure()

    def _configure(self) -> None:
        import grp  # noqa: PLC0415  Unix only, like Dovecot
        import pwd  # noqa: PLC0415

        for folder in ("run", "state", "mail", "keys/default/HS256"):
            (self.root / folder).mkdir(parents=True)
        (self.root / "keys/default/HS256/default").write_bytes(base64.b64encode(JWT_KEY))
        (self.root / "oauth2.conf").write_text(OAUTH2.format(root=self.root))
        (self.root / "users").write_text(
            f"{BEYOND_ASCII[0]}:{{PLAIN}}{BEYOND_ASCII[1]}\n", encoding="utf-8"
        )
        names = {"user": pwd.getpwuid(self._as).pw_name, "group": grp.getgrgid(self._group).gr_name}
        ports = {"port": self.port, "tls_port": self.tls_port}
        ids = {"uid": self._as, "gid": self._group}
        (self.root / "dovecot.conf").write_text(
            CONFIG.format(root=self.root, **names, **ports, **ids)
        )
        _create_certificate(self.certificate, self.root / "key.pem")
        for path in [self.root, *self.root.rglob("*")]:
            self._change_owner(path)

    def _change_owner(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, self._as, self._group)

    def start(self) -> None:
        assert BINARY
        options: dict[str, Any] = {"start_new_session": True}
        if os.geteuid() == 0:
            options |= {"user": self._as, "group": self._group, "extra_groups": []}
        command = [BINARY, "-F", "-c", str(self.root / "dovecot.conf")]
        self._process = subprocess.Popen(command, **options)
        deadline = time.monotonic() + 60
        while not self._is_answering():
            assert self._process.poll() is None, (self.root / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _is_answering(self) -> bool:
        try:
            with socket.create_connection((ALL, self.port), timeout=5) as connection:
                return connection.recv(4) == b"* OK"
        except OSError:
            return False

    def kill(self) -> None:
        """End it and every session at once, as a power cut would."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def get_maildir(self, user: str) -> Path:
        folder = self.root / "mail" / user
        for part in (folder, *(folder / name for name in ("cur", "new", "tmp"))):
            if not part.exists():
                part.mkdir()
                self._change_owner(part)
        return folder

    def deliver(self, user: str, raw: bytes) -> Path:
        """Drop a mail into a user's INBOX as a delivery agent would."""
        name = f"{time.monotonic_ns()}.{next(self._names)}.test"
        waiting = self.get_maildir(user) / "tmp" / name
        waiting.write_bytes(raw)
        self._change_owner(waiting)
        return waiting.rename(self.get_maildir(user) / "new" / name)

    def read_only(self, user: str) -> None:
        """Take from a user the right to change anything in the INBOX (RFC 4314)."""
        rights = self.get_maildir(user) / "dovecot-acl"
        rights.write_text("owner lr\n")
        self._change_owner(rights)

    @contextmanager
    def connect_client(self, user: str, folder: str = "INBOX") -> Iterator[IMAPClient]:
        """A second client, as a person beside the reader."""
        with IMAPClient(ALL, self.port, ssl=False, timeout=10) as client:
            client.login(user, PASSWORD)
            client.select_folder(folder)
            yield client

    def read_flags(self, user: str, folder: str = "INBOX") -> dict[int, set[bytes]]:
        """UID -> flags, without the server's own \\Recent."""
        with self.connect_client(user, folder) as client:
            found = client.get_flags(client.search("ALL"))
        return {uid: set(flags) - {b"\\Recent"} for uid, flags in found.items()}

    def log(self) -> str:
        return (self.root / "log").read_text()


@contextmanager
def run_dovecot() -> Iterator[Dovecot]:
    """A server in a temporary folder: a short path (Unix sockets) that every user can enter."""
    root = Path(tempfile.mkdtemp(prefix="dovecot-"))
    root.chmod(0o755)
    server = Dovecot(root)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(root)


def sign_jwt(user: str, key: bytes = JWT_KEY) -> str:
    """A token this Dovecot believes (RFC 7519, HS256), unless signed with another key."""
    now = int(time.time())
    claims = {"sub": user, "iat": now, "nbf": now - 5, "exp": now + 600}
    signing_input = b".".join(
        _encode_base64(json.dumps(part).encode())
        for part in ({"alg": "HS256", "typ": "JWT"}, claims)
    )
    return (
        signing_input + b"." + _encode_base64(hmac.new(key, signing_input, hashlib.sha256).digest())
    ).decode()


def _encode_base64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ALL, 0))
        return int(probe.getsockname()[1])


def _create_certificate(certificate: Path, key_file: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(ALL))]
    )
    certificate_object = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate.write_bytes(certificate_object.public_bytes(serialization.Encoding.PEM))
    form = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    key_file.write_bytes(key.private_bytes(*form))
    key_file.chmod(0o600)
