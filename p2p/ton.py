"""The declarations of `schema.tl` as typed values; `p2p.tl` packs and parses them.

Each class is checked against its declaration when it is defined. A union is named after its boxed
type, with `Type` behind it where a class has that name already.

Whether a field is boxed is not seen here: a `dht.node` within `dht.nodes` or `dht.query` is bare,
while the answer to `dht.getSignedAddressList` is boxed; the value of an address record is a boxed
`adnl.addressList`, that of a packet or a node is bare. An IPv4 address is a big-endian number kept
as a signed int: 185.86.79.9 is -1185526007.
"""

from typing import TypeAlias

from p2p.tl import TlObject, declared

# Keys and identities


@declared
class PubEd25519(TlObject):
    key: bytes


@declared
class PubAes(TlObject):
    key: bytes


@declared
class PubOverlay(TlObject):
    name: bytes


@declared
class PubUnenc(TlObject):
    data: bytes


PublicKey: TypeAlias = PubEd25519 | PubAes | PubOverlay | PubUnenc


@declared
class AdnlIdShort(TlObject):
    id: bytes


# Addresses


@declared
class AdnlAddressUdp(TlObject):
    ip: int
    """a big-endian number, as a signed int"""
    port: int


@declared
class AdnlAddressUdp6(TlObject):
    ip: bytes
    port: int


@declared
class AdnlAddressReverse(TlObject):
    pass


@declared
class AdnlAddressTunnel(TlObject):
    to: bytes
    pubkey: PublicKey


@declared
class AdnlAddressQuic(TlObject):
    ip: int
    port: int


AdnlAddress: TypeAlias = (
    AdnlAddressUdp | AdnlAddressUdp6 | AdnlAddressReverse | AdnlAddressTunnel | AdnlAddressQuic
)


@declared
class AdnlAddressList(TlObject):
    addrs: tuple[AdnlAddress, ...]
    version: int
    reinit_date: int
    priority: int
    expire_at: int


@declared
class AdnlNode(TlObject):
    id: PublicKey
    addr_list: AdnlAddressList


@declared
class AdnlNodes(TlObject):
    nodes: tuple[AdnlNode, ...]


# ADNL packets and messages


@declared
class AdnlMessageCreateChannel(TlObject):
    key: bytes
    date: int


@declared
class AdnlMessageConfirmChannel(TlObject):
    key: bytes
    peer_key: bytes
    date: int


@declared
class AdnlMessageCustom(TlObject):
    data: bytes


@declared
class AdnlMessageNop(TlObject):
    pass


@declared
class AdnlMessageReinit(TlObject):
    date: int


@declared
class AdnlMessageQuery(TlObject):
    query_id: bytes
    query: bytes


@declared
class AdnlMessageAnswer(TlObject):
    query_id: bytes
    answer: bytes


@declared
class AdnlMessagePart(TlObject):
    hash: bytes
    total_size: int
    offset: int
    data: bytes


AdnlMessage: TypeAlias = (
    AdnlMessageCreateChannel
    | AdnlMessageConfirmChannel
    | AdnlMessageCustom
    | AdnlMessageNop
    | AdnlMessageReinit
    | AdnlMessageQuery
    | AdnlMessageAnswer
    | AdnlMessagePart
)


@declared
class AdnlPacketContents(TlObject):
    rand1: bytes
    from_: PublicKey | None = None
    from_short: AdnlIdShort | None = None
    message: AdnlMessage | None = None
    messages: tuple[AdnlMessage, ...] | None = None
    address: AdnlAddressList | None = None
    priority_address: AdnlAddressList | None = None
    seqno: int | None = None
    confirm_seqno: int | None = None
    recv_addr_list_version: int | None = None
    recv_priority_addr_list_version: int | None = None
    reinit_date: int | None = None
    dst_reinit_date: int | None = None
    signature: bytes | None = None
    rand2: bytes = b""
    """never absent: Python wants a default behind fields that have one"""


# Keep-alive of the Go peer and of lite servers: a query, answered with the same value


@declared
class AdnlPing(TlObject):
    """Keep-alive of some peers, answered with the same value."""

    value: int


@declared
class AdnlPong(TlObject):
    value: int


# RLDP2 and FEC


@declared
class FecRaptorQ(TlObject):
    data_size: int
    symbol_size: int
    symbols_count: int


@declared
class Rldp2MessagePart(TlObject):
    transfer_id: bytes
    fec_type: FecRaptorQ
    part: int
    total_size: int
    seqno: int
    data: bytes


@declared
class Rldp2Confirm(TlObject):
    transfer_id: bytes
    part: int
    max_seqno: int
    received_mask: int
    received_count: int


@declared
class Rldp2Complete(TlObject):
    transfer_id: bytes
    part: int


Rldp2MessagePartType: TypeAlias = Rldp2MessagePart | Rldp2Confirm | Rldp2Complete


@declared
class RldpMessage(TlObject):
    id: bytes
    data: bytes


@declared
class RldpQuery(TlObject):
    query_id: bytes
    max_answer_size: int
    timeout: int
    data: bytes


@declared
class RldpAnswer(TlObject):
    query_id: bytes
    data: bytes


RldpMessageType: TypeAlias = RldpMessage | RldpQuery | RldpAnswer

# DHT


@declared
class DhtNode(TlObject):
    id: PublicKey
    addr_list: AdnlAddressList
    version: int
    signature: bytes


@declared
class DhtNodes(TlObject):
    nodes: tuple[DhtNode, ...]


@declared
class DhtKey(TlObject):
    id: bytes
    name: bytes
    idx: int


@declared
class DhtUpdateRuleSignature(TlObject):
    pass


@declared
class DhtUpdateRuleAnybody(TlObject):
    pass


@declared
class DhtUpdateRuleOverlayNodes(TlObject):
    pass


DhtUpdateRule: TypeAlias = DhtUpdateRuleSignature | DhtUpdateRuleAnybody | DhtUpdateRuleOverlayNodes


@declared
class DhtKeyDescription(TlObject):
    key: DhtKey
    id: PublicKey
    update_rule: DhtUpdateRule
    signature: bytes


@declared
class DhtValue(TlObject):
    key: DhtKeyDescription
    value: bytes
    ttl: int
    signature: bytes


@declared
class DhtPong(TlObject):
    random_id: int


@declared
class DhtValueNotFound(TlObject):
    nodes: DhtNodes


@declared
class DhtValueFound(TlObject):
    value: DhtValue


DhtValueResult: TypeAlias = DhtValueNotFound | DhtValueFound


@declared
class DhtClientNotFound(TlObject):
    nodes: DhtNodes


@declared
class DhtReversePingOk(TlObject):
    pass


DhtReversePingResult: TypeAlias = DhtClientNotFound | DhtReversePingOk


@declared
class DhtStored(TlObject):
    pass


@declared
class DhtMessage(TlObject):
    node: DhtNode


@declared
class DhtPing(TlObject):
    random_id: int


@declared
class DhtStore(TlObject):
    value: DhtValue


@declared
class DhtFindNode(TlObject):
    key: bytes
    k: int


@declared
class DhtFindValue(TlObject):
    key: bytes
    k: int


@declared
class DhtGetSignedAddressList(TlObject):
    pass


@declared
class DhtRegisterReverseConnection(TlObject):
    node: PublicKey
    ttl: int
    signature: bytes


@declared
class DhtRequestReversePing(TlObject):
    target: AdnlNode
    signature: bytes
    client: bytes
    k: int


@declared
class DhtQuery(TlObject):
    """In front of a query: the record of the server that asks."""

    node: DhtNode


# Overlays


@declared
class OverlayNodeToSign(TlObject):
    id: AdnlIdShort
    overlay: bytes
    version: int


@declared
class OverlayNodeToSignEx(TlObject):
    id: AdnlIdShort
    overlay: bytes
    flags: int
    version: int


@declared
class OverlayNode(TlObject):
    id: PublicKey
    overlay: bytes
    version: int
    signature: bytes


@declared
class OverlayMemberCertificate(TlObject):
    issued_by: PublicKey
    flags: int
    slot: int
    expire_at: int
    signature: bytes


@declared
class OverlayEmptyMemberCertificate(TlObject):
    pass


OverlayMemberCertificateType: TypeAlias = OverlayMemberCertificate | OverlayEmptyMemberCertificate


@declared
class OverlayNodeV2(TlObject):
    id: PublicKey
    overlay: bytes
    flags: int
    version: int
    signature: bytes
    certificate: OverlayMemberCertificateType


@declared
class OverlayNodes(TlObject):
    nodes: tuple[OverlayNode, ...]


@declared
class OverlayNodesV2(TlObject):
    nodes: tuple[OverlayNodeV2, ...]


@declared
class OverlayPong(TlObject):
    pass


@declared
class OverlayMessageExtra(TlObject):
    certificate: OverlayMemberCertificateType | None = None


@declared
class OverlayMessage(TlObject):
    """In front of a message: the overlay that it is about."""

    overlay: bytes


@declared
class OverlayMessageWithExtra(TlObject):
    overlay: bytes
    extra: OverlayMessageExtra


@declared
class OverlayBroadcastList(TlObject):
    hashes: tuple[bytes, ...]


@declared
class OverlayFecReceived(TlObject):
    hash: bytes


@declared
class OverlayFecCompleted(TlObject):
    hash: bytes


@declared
class OverlayBroadcastId(TlObject):
    src: bytes
    data_hash: bytes
    flags: int


@declared
class OverlayBroadcastFecId(TlObject):
    src: bytes
    type: bytes
    data_hash: bytes
    size: int
    flags: int


@declared
class OverlayBroadcastFecPartId(TlObject):
    broadcast_hash: bytes
    data_hash: bytes
    seqno: int


@declared
class OverlayBroadcastToSign(TlObject):
    hash: bytes
    date: int


@declared
class OverlayMemberCertificateId(TlObject):
    node: AdnlIdShort
    flags: int
    slot: int
    expire_at: int


@declared
class OverlayCertificate(TlObject):
    issued_by: PublicKey
    expire_at: int
    max_size: int
    signature: bytes


@declared
class OverlayCertificateV2(TlObject):
    issued_by: PublicKey
    expire_at: int
    max_size: int
    flags: int
    signature: bytes


@declared
class OverlayEmptyCertificate(TlObject):
    pass


OverlayCertificateType: TypeAlias = (
    OverlayCertificate | OverlayCertificateV2 | OverlayEmptyCertificate
)


@declared
class OverlayCertificateId(TlObject):
    overlay_id: bytes
    node: bytes
    expire_at: int
    max_size: int


@declared
class OverlayCertificateIdV2(TlObject):
    overlay_id: bytes
    node: bytes
    expire_at: int
    max_size: int
    flags: int


@declared
class OverlayUnicast(TlObject):
    data: bytes


@declared
class OverlayBroadcast(TlObject):
    src: PublicKey
    certificate: OverlayCertificateType
    flags: int
    data: bytes
    date: int
    signature: bytes


@declared
class OverlayBroadcastFec(TlObject):
    src: PublicKey
    certificate: OverlayCertificateType
    data_hash: bytes
    data_size: int
    flags: int
    data: bytes
    seqno: int
    fec: FecRaptorQ
    date: int
    signature: bytes


@declared
class OverlayBroadcastFecShort(TlObject):
    src: PublicKey
    certificate: OverlayCertificateType
    broadcast_hash: bytes
    part_data_hash: bytes
    seqno: int
    signature: bytes


@declared
class OverlayBroadcastNotFound(TlObject):
    pass


OverlayBroadcastType: TypeAlias = (
    OverlayFecReceived
    | OverlayFecCompleted
    | OverlayUnicast
    | OverlayBroadcast
    | OverlayBroadcastFec
    | OverlayBroadcastFecShort
    | OverlayBroadcastNotFound
)


@declared
class OverlayGetRandomPeers(TlObject):
    peers: OverlayNodes


@declared
class OverlayGetRandomPeersV2(TlObject):
    peers: OverlayNodesV2


@declared
class OverlayPing(TlObject):
    pass


@declared
class OverlayQuery(TlObject):
    """In front of a query: the overlay that it is about."""

    overlay: bytes


@declared
class OverlayQueryWithExtra(TlObject):
    overlay: bytes
    extra: OverlayMessageExtra


@declared
class OverlayGetBroadcast(TlObject):
    hash: bytes


@declared
class OverlayGetBroadcastList(TlObject):
    list: OverlayBroadcastList


# ADNL over TCP (lite servers; for ledger/chain/face.py)


@declared
class TcpPing(TlObject):
    random_id: int


@declared
class TcpPong(TlObject):
    random_id: int


@declared
class TcpAuthentificate(TlObject):
    nonce: bytes


@declared
class TcpAuthentificationNonce(TlObject):
    nonce: bytes


@declared
class TcpAuthentificationComplete(TlObject):
    key: PublicKey
    signature: bytes


TcpMessage: TypeAlias = TcpAuthentificate | TcpAuthentificationNonce | TcpAuthentificationComplete

# Ours: bodies are canonical msgpack


@declared
class TussahCall(TlObject):
    """Our own query; the body is canonical msgpack, as are those of the other two."""

    body: bytes


@declared
class TussahReply(TlObject):
    body: bytes


@declared
class TussahCast(TlObject):
    body: bytes
