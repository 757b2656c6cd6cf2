"""Kafka, Redis and Cassandra that let nobody in without TLS, a password and permissions."""

import socket
import ssl
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from stack.ports import LOOPBACK, free_port
from stack.servers import Cassandra, Kafka, Redis
from stack.servers.probes import CQL_ANSWER, CQL_QUESTION, KAFKA_ANSWER, KAFKA_QUESTION, is_cql, is_kafka
from store.cluster import Address, connect
from tests.integration.security.certificates import Pair

USER = "tocsin"
KAFKA_PASSWORD = "kafka#p@ss/word:%41"  # what a URL would have to encode
REDIS_PASSWORD = "redis#p@ss/word:%41"
STORE_PASSWORD = "store#p@ss/word:%41"
PREFIX = "sec."
STORE_OF_KEYS = "keystore-password"

# What the documentation (operations, Security) says that Redis has to allow.
REDIS_RULES = (
    "resetkeys resetchannels ~{prefix}gateway:* ~{prefix}worker:* "
    "&{prefix}gw:* &{prefix}gateways &{prefix}reply:* -@all "
    "+ping +publish +subscribe +unsubscribe +set +del +mget +get +scan +select"
)

_KAFKA = """
listeners=INSIDE://{host}:{inside},OUTSIDE://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=INSIDE://{host}:{inside},OUTSIDE://{name}:{port}
listener.security.protocol.map=INSIDE:PLAINTEXT,OUTSIDE:{protocol},CONTROLLER:PLAINTEXT
inter.broker.listener.name=INSIDE
ssl.keystore.type=PEM
ssl.keystore.location={keys}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
listener.name.outside.ssl.client.auth=none
sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN
listener.name.outside.sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN
listener.name.outside.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.outside.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.outside.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  user_{user}="{password}";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=false
"""


class SecuredKafka(Kafka):
    """Outside: SASL over TLS and permissions. Inside, a port of its own without either, for whoever set it up."""

    def __init__(self, folder: Path, keys: Pair, authority: Pair, *, name: str = LOOPBACK) -> None:
        super().__init__(folder)
        self.inside = free_port()
        self._keys = keys
        self._authority = authority
        self._name = name

    def _properties(self, data: Path) -> str:
        replaced = ("listeners=", "advertised.listeners=", "listener.security", "inter.broker")
        plain = [line for line in super()._properties(data).splitlines() if not line.startswith(replaced)]
        secured = _KAFKA.format(
            host=LOOPBACK,
            name=self._name,
            inside=self.inside,
            port=self.port,
            controller=self._controller,
            protocol="SASL_SSL",
            keys=self._keys.together(),
            authority=self._authority.certificate,
            user=USER,
            password=KAFKA_PASSWORD,
        )
        return "\n".join(plain) + secured

    def _answers(self) -> bool:
        return is_kafka(_ask(self.inside, KAFKA_QUESTION, KAFKA_ANSWER))

    def admit(self, bindings: list[AclBinding]) -> None:
        """Make the user with its SCRAM credentials and give it permissions."""
        admin = AdminClient({"bootstrap.servers": f"{LOOPBACK}:{self.inside}"})
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            credential = ScramCredentialInfo(mechanism, 4096)
            change = UserScramCredentialUpsertion(USER, credential, KAFKA_PASSWORD.encode())
            for done in admin.alter_user_scram_credentials([change]).values():
                done.result(30)
        for done in admin.create_acls(bindings).values():
            done.result(30)


def allowed(kind: str, name: str, operations: str, *, prefixed: bool = True) -> list[AclBinding]:
    """Return permissions on what begins with `name`, or has it."""
    pattern = ResourcePatternType.PREFIXED if prefixed else ResourcePatternType.LITERAL
    return [
        AclBinding(ResourceType[kind], name, pattern, f"User:{USER}", "*", AclOperation[op], AclPermissionType.ALLOW)
        for op in operations.split()
    ]


# What the documentation (operations, Security) says that Kafka has to allow.
KAFKA_PERMISSIONS = [
    *allowed("TOPIC", PREFIX, "READ WRITE DESCRIBE CREATE ALTER_CONFIGS DESCRIBE_CONFIGS"),
    *allowed("GROUP", PREFIX, "READ DESCRIBE"),
]

_REDIS = """\
bind {host}
port 0
tls-port {port}
tls-cert-file {certificate}
tls-key-file {key}
tls-ca-cert-file {authority}
tls-auth-clients no
dir "{folder}"
daemonize no
loglevel warning
save ""
appendonly no
user default off
user {user} on >{password} {rules}
"""


class SecuredRedis(Redis):
    """TLS only, and one user with the few rights that Tocsin needs."""

    def __init__(self, folder: Path, keys: Pair, authority: Pair) -> None:
        super().__init__(folder)
        self._keys = keys
        self._authority = authority

    def _prepare(self) -> list[str]:
        configuration = self.folder / "redis.conf"
        configuration.write_text(
            _REDIS.format(
                host=LOOPBACK,
                port=self.port,
                folder=self.folder,
                certificate=self._keys.certificate,
                key=self._keys.key,
                authority=self._authority.certificate,
                user=USER,
                password=REDIS_PASSWORD,
                rules=REDIS_RULES.format(prefix=PREFIX),
            )
        )
        return [self._program(), str(configuration)]

    def _answers(self) -> bool:
        return _ask(self.port, b"PING\r\n", 7, tls=True) == b"-NOAUTH"


_CASSANDRA = """
client_encryption_options:
  enabled: true
  optional: false
  keystore: {keystore}
  keystore_password: {password}
  store_type: PKCS12
  require_client_auth: false
role_manager: CassandraRoleManager
"""


class SecuredCassandra(Cassandra):
    """TLS only, with users and permissions; the first user is Cassandra's own."""

    def __init__(self, folder: Path, keys: Pair, authority: Pair) -> None:
        super().__init__(folder)
        self._keys = keys
        self._authority = authority

    def _configure(self) -> list[str]:
        options = super()._configure()
        yaml = self.folder / "cassandra.yaml"
        plain = yaml.read_text().replace("AllowAllAuthenticator", "PasswordAuthenticator")
        plain = plain.replace("AllowAllAuthorizer", "CassandraAuthorizer")
        keystore = self._keys.pkcs12(STORE_OF_KEYS)
        yaml.write_text(plain + _CASSANDRA.format(keystore=keystore, password=STORE_OF_KEYS))
        return options

    def _answers(self) -> bool:
        return is_cql(_ask(self.port, CQL_QUESTION, CQL_ANSWER, tls=True))

    def admit(self) -> None:
        """Make the user of the documentation: it may make and use one keyspace."""
        address = Address(
            hosts=((LOOPBACK, self.port),),
            keyspace="tocsin",
            user="cassandra",
            password="cassandra",
            tls=True,
            ca=str(self._authority.certificate),
        )
        session = connect(address)
        try:
            session.execute(f"CREATE ROLE {USER} WITH LOGIN = true AND PASSWORD = '{STORE_PASSWORD}'")
            session.execute(
                "CREATE KEYSPACE tocsin WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 1}"
            )
            for right in ("CREATE", "ALTER", "SELECT", "MODIFY"):
                session.execute(f"GRANT {right} ON KEYSPACE tocsin TO {USER}")
        finally:
            session.cluster.shutdown()


def _ask(port: int, question: bytes, length: int, *, tls: bool = False) -> bytes:
    """Return the first `length` bytes of an answer; whose certificate it is does not matter here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    answer = b""
    try:
        with socket.create_connection((LOOPBACK, port), 1) as plain:
            connection = context.wrap_socket(plain) if tls else plain
            with connection:
                connection.sendall(question)
                while len(answer) < length and (more := connection.recv(length - len(answer))):
                    answer += more
    except OSError:  # nobody listens yet, or too slowly: no answer
        return answer
    return answer
