"""Network profiles: which network a node takes part in and whom it asks first.

A profile is a TOML file in the home's `networks/`; an invitation is the same in one line of text.
A network with a chain pays; its mints are those that the profile names, since whose credits one
holds is a matter of trust.
"""

import base64
import ipaddress
import json
import re
import string
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, final

from p2p import codec
from p2p.entropy import Entropy, SystemEntropy
from p2p.errors import BadSignature, CodecError
from p2p.identity import AdnlId, Identity, short_id
from p2p.wire import Endpoint
from scripts.failure import Document, Failed, suggestion
from scripts.home import SEED_BYTES, Home, write_private

SCHEME = "tussah://"

MAX_INVITE = 1_024
"""characters: it must fit a line of a chat or a QR code."""

MAX_BOOTSTRAP, MAX_SERVERS, MAX_MINTS = 8, 2, 3
"""peers, lite-servers and mints in one profile: what the longest invitation holds."""

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")

ANYBODY = Identity(bytes(SEED_BYTES))
"""Who else's keys are tried with: a handshake could not be made with what is no point."""

MAINNET = -239
"""TON's own id of the chain whose coins are money."""

LOCAL = -4242
"""The id of what `tussah localchain` runs."""

CHAIN_NAMES: Mapping[int, str] = {MAINNET: "mainnet", -3: "testnet", LOCAL: "local"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapPeer:
    """A node that newcomers ask first: its Ed25519 key, and where it listens, on TCP and on UDP."""

    key: bytes
    endpoint: Endpoint

    def __post_init__(self) -> None:
        _check_key("bootstrap peer", self.key)

    @property
    def id(self) -> AdnlId:
        """Who it is."""
        return short_id(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A lite-server of the chain: where it listens, and the Ed25519 key it proves."""

    endpoint: Endpoint
    key: bytes

    def __post_init__(self) -> None:
        _check_key("lite-server", self.key)


def _check_key(whose: str, key: bytes) -> None:
    try:
        ANYBODY.shared(key)
    except BadSignature as error:
        raise Failed("no_network", f"The key of a {whose} is no Ed25519 key.") from error


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The chain that a network's payments settle on."""

    network: int
    """i32, the chain's global id: TON's mainnet -239, testnet -3, an embedded chain -4242."""
    servers: tuple[Server, ...]

    def __post_init__(self) -> None:
        if not -(2**31) <= self.network < 2**31:
            raise Failed("no_network", f"The chain's id {self.network} is not a 32-bit number.")
        if not 1 <= len(self.servers) <= MAX_SERVERS:
            raise Failed("no_network", f"A chain is reached by 1 to {MAX_SERVERS} lite-servers.")

    @property
    def name(self) -> str:
        """What people call it; its id, where nobody does."""
        return CHAIN_NAMES.get(self.network, str(self.network))

    @property
    def worthless(self) -> bool:
        """Whether its coins are worth nothing."""
        return self.network != MAINNET


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One network. Raises `Failed` (`no_network`) when made of what is none."""

    name: str
    id: int
    """i32: keeps networks apart in adverts and handshakes."""
    dev: bool
    """On one machine or in one room: loopback addresses allowed, short periods, no work stamp."""
    bootstrap: tuple[BootstrapPeer, ...]
    chain: Chain | None = None
    """None: everybody answers for free."""
    mints: tuple[AdnlId, ...] = ()
    """Whose credits count here."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if not -(2**31) <= self.id < 2**31:
            raise Failed("no_network", f"The network id {self.id} is not a 32-bit number.")
        if not 1 <= len(self.bootstrap) <= MAX_BOOTSTRAP:
            raise Failed("no_network", f"A network names 1 to {MAX_BOOTSTRAP} bootstrap peers.")
        if len(self.mints) > MAX_MINTS:
            raise Failed("no_network", f"A network names at most {MAX_MINTS} mints.")


def check_name(name: str) -> None:
    """Raise `Failed` (`usage`) for what cannot name a network."""
    if not NAME.fullmatch(name):
        raise Failed(
            "usage",
            f"{name!r} cannot name a network.",
            "Use up to 32 lower-case letters, digits and hyphens.",
        )


# --- profiles of a home ---


def found(home: Home) -> list[str]:
    """The names of the networks this home has joined."""
    return sorted(path.stem for path in home.networks.glob("*.toml"))


def select(home: Home, name: str) -> Profile:
    """The profile of that name; for an empty name, the only one there is.

    Raises `Failed` (`no_network`) if there is none, or several and no name.
    """
    known = found(home)
    if name:
        return load(home, name)
    if len(known) == 1:
        return load(home, known[0])
    if known:
        message = f"This home has joined {len(known)} networks: {', '.join(known)}."
        raise Failed("no_network", message, "Name one: --network NAME.")
    raise Failed(
        "no_network",
        f"No network has been joined in {home.path}.",
        "Make one with `tussah network new NAME`, or join one with "
        "`tussah network join INVITE` (its members print INVITE with `tussah network show`).",
    )


def load(home: Home, name: str) -> Profile:
    """The profile of a network this home has joined. Raises `Failed` (`no_network`)."""
    check_name(name)
    path = home.networks / f"{name}.toml"
    try:
        return _from_table(tomllib.loads(path.read_text("utf-8")))
    except FileNotFoundError as error:
        known = found(home)
        advice = suggestion(name, known) or f"Joined: {', '.join(known) or 'none'}."
        message = f"No network {name} has been joined in {home.path}."
        raise Failed("no_network", message, advice) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path} is no network profile: {error}."
        raise Failed("no_network", message, "Join the network again.") from error


def save(home: Home, profile: Profile, *, replace: bool = False) -> None:
    """Write a profile. Raises `Failed` (`usage`) for a name that is taken."""
    home.prepare()
    try:
        path = home.networks / f"{profile.name}.toml"
        write_private(path, _to_toml(profile), replace=replace)
    except FileExistsError as error:
        message = f"This home has already joined a network {profile.name}."
        advice = f"Forget it first: tussah network leave {profile.name}"
        raise Failed("usage", message, advice) from error


def leave(home: Home, name: str) -> None:
    """Forget a network. Raises `Failed` (`no_network`)."""
    load(home, name)
    (home.networks / f"{name}.toml").unlink()


def create(home: Home, name: str, *, endpoint: Endpoint, entropy: Entropy, dev: bool) -> Profile:
    """Make a network with this home's persistent identity as its first bootstrap peer."""
    check_name(name)
    peer = BootstrapPeer(key=persistent_identity(home, entropy).public, endpoint=endpoint)
    number = int.from_bytes(entropy.token(4), "little", signed=True)
    profile = Profile(name=name, id=number, dev=dev, bootstrap=(peer,))
    save(home, profile)
    return profile


def create_at(
    home: Home, name: str, *, host: str, port: int, chain: Document | None = None
) -> Profile:
    """`create` for an address that a person typed; a dev network unless it is a public one.

    `chain` is what a local chain says of itself: then this home's node is the network's mint.
    Raises `Failed` (`usage`) if it is no address.
    """
    try:
        address = ipaddress.ip_address(host)
        endpoint = _endpoint(address.packed, port)
    except ValueError as error:
        message = f"{host}:{port} is no address: {error}."
        raise Failed("usage", message, "Give an IP address and a port.") from error
    dev = not address.is_global
    profile = create(home, name, endpoint=endpoint, entropy=SystemEntropy(), dev=dev)
    if chain is None:
        return profile
    number, key, where = chain["network"], str(chain["key"]), str(chain["address"])
    assert isinstance(number, int)
    paying = replace(
        profile,
        chain=Chain(network=number, servers=(_server(key, where),)),
        mints=(profile.bootstrap[0].id,),
    )
    save(home, paying, replace=True)
    return paying


def persistent_identity(home: Home, entropy: Entropy) -> Identity:
    """The identity of a node that others know; made at first use."""
    home.prepare()
    seed = home.seed()
    if seed is None:
        seed = entropy.token(SEED_BYTES)
        home.keep_seed(seed)
    return Identity(seed)


# --- as TOML ---


def _to_toml(profile: Profile) -> str:
    lines = [
        f"name = {json.dumps(profile.name)}",
        f"id = {profile.id}",
        f"dev = {json.dumps(profile.dev)}",
        f"mints = {json.dumps([mint.hex() for mint in profile.mints])}",
    ]
    for peer in profile.bootstrap:
        address = format_endpoint(peer.endpoint)
        lines += ["", "[[bootstrap]]", f'key = "{peer.key.hex()}"', f'address = "{address}"']
    if profile.chain is not None:
        lines += ["", "[chain]", f"network = {profile.chain.network}"]
        for server in profile.chain.servers:
            address = format_endpoint(server.endpoint)
            lines += ["", "[[chain.servers]]"]
            lines += [f'key = "{server.key.hex()}"', f'address = "{address}"']
    return "\n".join(lines) + "\n"


def _from_table(table: Mapping[str, object]) -> Profile:
    name, number, dev, peers = (table[key] for key in ("name", "id", "dev", "bootstrap"))
    if not (isinstance(name, str) and isinstance(number, int) and isinstance(dev, bool)):
        raise ValueError("name, id and dev must be text, a number and true or false")
    if not isinstance(peers, list):
        raise TypeError("bootstrap must be a list")
    bootstrap = tuple(_peer(str(peer["key"]), str(peer["address"])) for peer in peers)
    mints = table.get("mints", [])
    if not isinstance(mints, list):
        raise TypeError("mints must be a list")
    return Profile(
        name=name,
        id=number,
        dev=dev,
        bootstrap=bootstrap,
        chain=_chain(table["chain"]) if "chain" in table else None,
        mints=tuple(_adnl_id(bytes.fromhex(str(mint))) for mint in mints),
    )


def _chain(table: object) -> Chain:
    match table:
        case {"network": int(network), "servers": list(servers)}:
            return Chain(
                network=network,
                servers=tuple(_server(str(each["key"]), str(each["address"])) for each in servers),
            )
        case _:
            raise ValueError("chain must have a network and servers")


def _server(key: str, address: str) -> Server:
    return Server(endpoint=parse_endpoint(address), key=_bytes32(bytes.fromhex(key)))


def _peer(key: str, address: str) -> BootstrapPeer:
    return BootstrapPeer(key=_bytes32(bytes.fromhex(key)), endpoint=parse_endpoint(address))


def _adnl_id(raw: bytes) -> AdnlId:
    return AdnlId(_bytes32(raw))


def _bytes32(raw: bytes) -> bytes:
    if len(raw) != 32:
        raise ValueError("a key and an id have 32 bytes")
    return raw


def format_endpoint(endpoint: Endpoint) -> str:
    """`127.0.0.1:4001`, `[::1]:4001`."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{host}:{endpoint.port}"


def parse_endpoint(text: str) -> Endpoint:
    """What `format_endpoint` writes. Raises `ValueError`."""
    host, _, port = text.rpartition(":")
    address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    return _endpoint(address.packed, int(port))


def _endpoint(packed: bytes, port: int) -> Endpoint:
    if not 1 <= port <= 65_535:
        raise ValueError("a port is between 1 and 65535")
    return Endpoint(str(ipaddress.ip_address(packed)), port)


# --- as an invitation ---

INVITE_VERSION = 3


def invite(profile: Profile) -> str:
    """The profile as one line of text. Raises `Failed` if it does not fit."""
    peers: Sequence[codec.Value] = [
        [peer.key, ipaddress.ip_address(peer.endpoint.host).packed, peer.endpoint.port]
        for peer in profile.bootstrap
    ]
    packed = codec.pack(
        [
            INVITE_VERSION,
            profile.name,
            profile.id,
            profile.dev,
            peers,
            None if profile.chain is None else _packed_chain(profile.chain),
            profile.mints,
        ]
    )
    return SCHEME + _encoded(packed)


def _packed_chain(chain: Chain) -> codec.Value:
    servers: Sequence[codec.Value] = [
        [server.key, ipaddress.ip_address(server.endpoint.host).packed, server.endpoint.port]
        for server in chain.servers
    ]
    return [chain.network, *servers]


def parse_invite(text: str) -> Profile:
    """The profile an invitation carries. Raises `Failed` (`invalid_invite`)."""
    try:
        if len(text) > MAX_INVITE or not text.startswith(SCHEME):
            raise ValueError(
                f"it must begin with {SCHEME} and have no more than {MAX_INVITE} characters"
            )
        return _from_invite(codec.unpack(_decoded(text.removeprefix(SCHEME)), MAX_INVITE))
    except (ValueError, TypeError, CodecError, Failed) as error:
        cut = isinstance(error, CodecError)
        why = "it is cut short, or mistyped" if cut else str(error).rstrip(".")
        message = f"This is no invitation: {why}."
        raise Failed("invalid_invite", message, "Copy the whole line, without spaces.") from error


LETTERS: Final = frozenset(string.ascii_letters + string.digits + "-_")
"""What an invitation is written with, behind its scheme."""


def _encoded(packed: bytes) -> str:
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode("ascii")


def _decoded(text: str) -> bytes:
    """What `_encoded` wrote; nothing else stands for it. Raises `ValueError`."""
    strange = sorted({each for each in text if each not in LETTERS})
    if strange:
        raise ValueError(f"it has {strange[0]!r}, which no invitation has")
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise ValueError("its end is missing") from error
    if _encoded(packed) != text:
        raise ValueError("its last letter is another")
    return packed


def _from_invite(value: codec.Value) -> Profile:
    match value:
        case (3, str(name), int(number), bool(dev), tuple(peers), chain, tuple(mints)):
            return Profile(
                name=name,
                id=number,
                dev=dev,
                bootstrap=tuple(_invited_peer(peer) for peer in peers),
                chain=None if chain is None else _invited_chain(chain),
                mints=tuple(_invited_id(mint) for mint in mints),
            )
        case (int(version), *_) if version != INVITE_VERSION:
            age = "newer" if version > INVITE_VERSION else "older"
            raise ValueError(f"its version {version} is {age} than this program's")
        case _:
            raise ValueError("its fields are not an invitation's")


def _invited_peer(value: object) -> BootstrapPeer:
    match value:
        case (bytes(key), bytes(address), int(port)) if len(address) in (4, 16):
            return BootstrapPeer(key=_bytes32(key), endpoint=_endpoint(address, port))
        case _:
            raise ValueError("a bootstrap peer is a key, an address and a port")


def _invited_chain(value: object) -> Chain:
    match value:
        case (int(network), *servers):
            peers = [_invited_peer(server) for server in servers]
            return Chain(
                network=network,
                servers=tuple(Server(endpoint=peer.endpoint, key=peer.key) for peer in peers),
            )
        case _:
            raise ValueError("a chain is its id and its lite-servers")


def _invited_id(value: object) -> AdnlId:
    if not isinstance(value, bytes):
        raise TypeError("an id is bytes")
    return _adnl_id(value)
