"""Links over py-libp2p: TCP, Noise and yamux, one long-lived stream a peer.

The only module that imports libp2p, of which it uses the protocols and nothing that outlives a
connection: no host, no swarm, no address book. Those retry, remember and prune behind one's
back. Here a connection is a nursery of tasks that own it, and the end of any of them is the end
of all: no library call is ever cancelled on a connection that goes on, since half a frame
written, or half of one read, leaves nothing that its peer could decrypt.
"""

import logging
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, final

import trio
from libp2p.abc import ISecureConn
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import X25519PrivateKey
from libp2p.custom_types import TProtocol
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import (
    DEFAULT_WINDOW_SIZE,
    TYPE_DATA,
    YAMUX_HEADER_FORMAT,
    Yamux,
    YamuxStream,
)
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX

from p2p import defaults
from p2p.codec import Unframer
from p2p.core import Source
from p2p.entropy import Entropy
from p2p.errors import Closed, Rejected, RemoteError, Unreachable
from p2p.identity import PEER_ID_PREFIX, AdnlId, Identity, short_id
from p2p.transport import courtesies, frames, reach
from p2p.transport.carrier import CarrierStatistics, Listener, Meet, Tap
from p2p.transport.links import End, Links
from p2p.wire import Endpoint, Link

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus

PROTOCOL: Final = TProtocol("/tussah/link/1")

_MAX_LINKS: Final = defaults.LINKS_LISTED + defaults.LINKS_UNLISTED

_ACCEPT_PAUSE: Final = 0.1
"""seconds without accepting once no file descriptor is left."""

# What a peer does to a connection is no news for anybody's log.
logging.getLogger("libp2p").setLevel(logging.CRITICAL + 1)


@final
class Libp2pCarrier:
    """The `Carrier` of production: listens, dials, and keeps at most one link a peer.

    `listen` None: a node that only dials; port 0: any free one. What peers do is counted and
    never raises. `meet` is told the addresses of each link that came up.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        network: int,
        listen: Endpoint | None,
        entropy: Entropy,
        tap: Tap | None = None,
        meet: Meet | None = None,
    ) -> None:
        self._identity = identity
        self._network = network
        self._listen = listen
        self._noise = Noise(
            create_new_key_pair(identity.seed),
            noise_privkey=X25519PrivateKey.from_bytes(entropy.token(32)),
        )
        self._hello = frames.hello(network, identity.public)
        self._links = Links(identity.id, tap)
        self._meet = meet
        self._dials = reach.Dials(self._links, self._attempt)
        self._arriving = 0
        self._nursery: trio.Nursery | None = None

    async def run(
        self,
        listener: Listener,
        *,
        task_status: "TaskStatus[Endpoint | None]" = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled; started with the bound endpoint, None for a dial-only node.

        All links are down when it ends. Raises `LocalError` if it cannot listen.
        """
        sockets = await reach.bind(self._listen)
        self._links.open(listener)
        try:
            async with trio.open_nursery() as self._nursery:
                for socket in sockets:
                    self._nursery.start_soon(self._accept, socket)
                task_status.started(reach.bound(sockets))
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self._dials.clear()
            self._links.shut()
            for socket in sockets:
                socket.socket.close()

    # --- the driver's side: nothing here waits ---

    def dial(self, peer: AdnlId, endpoints: Sequence[Endpoint]) -> None:
        """Ask for a link to `peer`; the listener hears `link_up` or `dial_failed` later.

        Does nothing while a dial to the peer is under way or a link to it is up. Soon after a
        failure at the same endpoints it first waits, up to 5 s, so that no caller can spin.
        """
        if self._nursery is not None:
            self._dials.begin(self._nursery, peer, tuple(endpoints))

    def knock(self, peer: AdnlId, endpoint: Endpoint) -> None:
        """Try one endpoint once, and tell nobody if no link comes of it. A dial ends it."""
        if self._nursery is not None:
            self._dials.knock(self._nursery, peer, endpoint)

    def close(self, link: Link, *, dead: bool = False) -> None:
        """Close a link once what was sent is written, a `dead` one at once: `link_down` follows."""
        self._links.close(link, dead=dead)

    def send(self, now: float, to: Source, data: bytes) -> None:
        """Queue a message for a link; it is dropped if the link is gone.

        Raises `LocalError` for what is no message for a link: our own bug.
        """
        self._links.send(to, data)

    def take(self, limit: int = 64) -> list[tuple[Source, bytes]]:
        """What has arrived, a message a link in turn. Raises `Closed` after the run."""
        return self._links.take(limit)

    async def wait(self) -> None:
        """Return when `take` may have something to give, or to raise. A checkpoint always."""
        await self._links.wait()

    def statistics(self) -> CarrierStatistics:
        """A snapshot of the counters."""
        return self._links.statistics(dialling=len(self._dials))

    # --- connections begin ---

    async def _accept(self, socket: trio.SocketListener) -> None:
        assert self._nursery is not None
        while True:
            try:
                tcp = await socket.accept()
            except OSError:  # out of file descriptors: some link will end
                await trio.sleep(_ACCEPT_PAUSE)
                continue
            if self._arriving >= defaults.LINKS_ARRIVING or len(self._links) >= _MAX_LINKS:
                self._links.counts.refused += 1
                await trio.aclose_forcefully(tcp)
            else:
                self._nursery.start_soon(self._arrive, tcp)

    async def _arrive(self, tcp: trio.SocketStream) -> None:
        self._arriving += 1
        try:
            greeted = await self._start(tcp, None)
        finally:
            self._arriving -= 1
        self._links.counts.refused += not greeted

    async def _attempt(self, peer: AdnlId, endpoint: Endpoint) -> bool:
        if peer == self._identity.id:
            return False
        try:
            with trio.fail_after(defaults.LINK_SETUP_TIMEOUT):
                tcp = await trio.open_tcp_stream(endpoint.host, endpoint.port)
        except (OSError, trio.TooSlowError):
            return False
        return await self._start(tcp, peer)

    async def _start(self, tcp: trio.SocketStream, expected: AdnlId | None) -> bool:
        """Leave a connection to a task of its own; returns whether it became a link."""
        assert self._nursery is not None
        up: bool = await self._nursery.start(self._serve, tcp, expected)
        return up

    # --- a connection lives ---

    async def _serve(
        self,
        tcp: trio.SocketStream,
        expected: AdnlId | None,
        *,
        task_status: "TaskStatus[bool]" = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """All of one connection, until what it brought has been taken."""
        connection = _Connection(tcp, dialled=expected is not None, public=self._identity.public)
        end: End | None = None
        try:
            async with trio.open_nursery() as nursery:
                with _ending(nursery.cancel_scope):
                    with trio.fail_after(defaults.LINK_SETUP_TIMEOUT):
                        public = await self._prove(connection, expected)
                        await connection.open(nursery)
                        arriving = End(
                            public,
                            nursery.cancel_scope,
                            dialled=connection.dialled,
                            host=connection.endpoints()[1].host,
                        )
                        nursery.start_soon(_write, connection, arriving)
                        early = await self._greet(connection, arriving)
                    end = arriving
                    connection.greeted()
                    task_status.started(True)
                    nursery.start_soon(self._beat, end)
                    await self._read(connection, end, early)
            connection.close()
            if end is not None:
                await end.all_taken()
        finally:
            connection.close()
            if end is not None:
                self._links.leave(end)
            else:
                task_status.started(False)

    async def _prove(self, connection: "_Connection", expected: AdnlId | None) -> bytes:
        """The peer's public key. Raises `Rejected` if it is not the one to be reached."""
        public = await connection.secure(self._noise)
        peer = short_id(public)
        if peer == self._identity.id or expected not in (None, peer):
            raise Rejected("not the key that was expected")
        return public

    async def _greet(self, connection: "_Connection", end: End) -> list[bytes]:
        """Make it a link; returns the frames that came right behind the greeting.

        The acceptor greets last, so that the dialler has no link which the acceptor refused.
        """
        if end.dialled:
            end.greet(self._hello)
        with trio.fail_after(defaults.LINK_HELLO_TIMEOUT):
            hello, *early = await connection.read()
        frames.check_hello(hello, self._network, end.public)

        await self._links.left(end.link.peer)
        if not end.dialled:
            end.greet(self._hello)
        ours, theirs = connection.endpoints()
        self._dials.answer(end.link.peer)
        self._links.enter(end)
        if self._meet is not None:
            self._meet(end.link, ours, theirs)
        return early

    async def _read(self, connection: "_Connection", end: End, bodies: list[bytes]) -> None:
        """Take what comes as fast as it comes: yamux kills a link whose reader pauses."""
        try:
            while True:
                for body in bodies:
                    self._links.receive(end, body)
                bodies = await connection.read()
                end.pings_lost = 0
        except RemoteError:
            self._links.counts.closed += 1
            raise

    async def _beat(self, end: End) -> None:
        """Notice a peer that is gone without a word."""
        with _ending(end.scope):
            await trio.sleep(defaults.PING_INTERVAL)
            while end.pings_lost < defaults.PINGS_LOST:
                end.beat()
                await trio.sleep(defaults.PING_INTERVAL)
            self._links.counts.closed += 1


async def _write(connection: "_Connection", end: End) -> None:
    """Write what the outbox gives, as much at once as one Noise message holds."""
    with _ending(end.scope):
        while True:
            if data := end.next_write():
                await connection.write(data)
            else:
                await end.stirred.wait()


@contextmanager
def _ending(scope: trio.CancelScope) -> Iterator[None]:
    """Around each task of a connection: the end of one, of whatever the peer did, ends all."""
    try:
        yield
    except (RemoteError, Unreachable, trio.TooSlowError):
        pass
    finally:
        scope.cancel()


# --- the library, from here on ---

_READ: Final = 65_536
"""bytes asked of the stream at once: one frame of yamux."""

_STRANGER_PAUSE: Final = 0.1
"""seconds between two streams that a peer opens: beyond, its own connection waits."""

_COURTESIES: Final = (courtesies.PING, courtesies.IDENTIFY)

_CHOICE_TIME: Final = 5
"""seconds that a peer has to name a protocol that is to be had: so fifty such streams wait"""

_READ_PAUSE: Final = 1.0
"""seconds that a peer has to read what it was told: a reset discards what is unread"""

_MAX_BUFFERED: Final = 1_048_576
"""bytes of all streams of a connection that may wait to be read: four of yamux's windows."""


@contextmanager
def _library() -> Iterator[None]:
    """What is raised here because of a peer is `Closed`: the connection cannot be used any more."""
    try:
        yield
    except Exception as error:  # its own, struct's, nacl's, noise's, protobuf's, trio's, Unicode's
        raise Closed("libp2p gave the connection up") from error
    except BaseExceptionGroup as group:  # of its nurseries: such errors beside a cancellation
        _, rest = group.split(Exception)
        raise (rest or group) from None


@final
class _Connection:
    """libp2p's protocols on one TCP connection. Raises only `RemoteError` and `Unreachable`."""

    def __init__(self, tcp: trio.SocketStream, *, dialled: bool, public: bytes = b"") -> None:
        self.dialled = dialled
        self._public = public
        self._pipe = _Pipe(tcp)
        self._secure: ISecureConn | None = None
        self._stream: YamuxStream | None = None
        self._unreleased = 0
        self._opened = trio.Event()
        self._unframer = Unframer(frames.MAX_BODY)

    async def secure(self, noise: Noise) -> bytes:
        """Encrypt; returns the Ed25519 key that the peer has proved to hold.

        An ADNL id does not tell the PeerId, so that the caller compares instead of the library.
        """
        with _library():
            raw = RawConnection(self._pipe, self.dialled)
            await _agree(raw, NOISE, dialled=self.dialled)
            pattern = noise.get_pattern()
            if self.dialled:
                self._secure = await pattern.handshake_outbound(raw, None)
            else:
                self._secure = await pattern.handshake_inbound(raw)
            peer_id = self._secure.get_remote_peer().to_bytes()
        if not peer_id.startswith(PEER_ID_PREFIX):
            raise Rejected("not an Ed25519 key")
        return peer_id.removeprefix(PEER_ID_PREFIX)

    async def open(self, nursery: trio.Nursery) -> None:
        """Multiplex, and open the one stream that is the link."""
        assert self._secure is not None
        with _library():
            await _agree(self._secure, TProtocol(YAMUX), dialled=self.dialled)
            muxed = _Yamux(self._secure, self._secure.get_remote_peer(), self.dialled)
        nursery.start_soon(self._multiplex, muxed, nursery.cancel_scope)
        nursery.start_soon(self._meet_streams, muxed, nursery)
        await self._open_stream(muxed)

    async def _open_stream(self, muxed: Yamux) -> None:
        if not self.dialled:
            await self._opened.wait()
            return
        with _library():
            await muxed.event_started.wait()
            self._stream = await muxed.open_stream()
            await _agree(self._stream, PROTOCOL, dialled=True)

    async def _multiplex(self, muxed: Yamux, scope: trio.CancelScope) -> None:
        with _ending(scope), _library():
            await muxed.start()

    async def _meet_streams(self, muxed: Yamux, nursery: trio.Nursery) -> None:
        """Every stream of the peer's is taken, as yamux halts while one is not."""
        with _ending(nursery.cancel_scope):
            while True:
                with _library():
                    stream = await muxed.accept_stream()
                nursery.start_soon(self._meet, stream)
                await trio.sleep(_STRANGER_PAUSE)

    async def _meet(self, stream: YamuxStream) -> None:
        """The first stream that asks for the link's protocol is the link; others are courtesies."""
        with suppress(Closed), _library():
            match await self._asked(stream):
                case courtesies.PING:
                    await _echo(stream)
                case courtesies.IDENTIFY:
                    await stream.write(self._about())
                    await stream.close()
                case _ if self._stream is None:
                    self._stream = stream
                    self._opened.set()
                    return
                case _:
                    pass
            await trio.sleep(_READ_PAUSE)
        with suppress(Closed), _library():
            await stream.reset()

    async def _asked(self, stream: YamuxStream) -> str:
        """The protocol that a stream of the peer's is for, of those that are to be had."""
        wants_link = not self.dialled and self._stream is None
        names = [PROTOCOL] if wants_link else []
        chosen, _ = await Multiselect(
            dict.fromkeys([*names, *map(TProtocol, _COURTESIES)])
        ).negotiate(MultiselectCommunicator(stream), _CHOICE_TIME)
        return str(chosen)

    def _about(self) -> bytes:
        """What identify tells: nothing that a peer who dialled does not know."""
        ours, theirs = self.endpoints()
        listening = [] if self.dialled else [ours]
        return courtesies.about(self._public, [PROTOCOL, *_COURTESIES], listening, theirs)

    async def read(self) -> list[bytes]:
        """The bodies of the frames that come next, at least one. Never cancelled, then used on."""
        stream = self._stream
        assert stream is not None
        while True:
            with _library():
                data = await stream.conn.read_stream(stream.stream_id, _READ)
                await self._release(stream, len(data))
            self._unframer.feed(data)
            if bodies := list(self._unframer):
                return bodies

    async def _release(self, stream: YamuxStream, size: int) -> None:
        """Open the window again once half is used: the library would write after each read."""
        self._unreleased += size
        if self._unreleased >= DEFAULT_WINDOW_SIZE // 2:
            due, self._unreleased = self._unreleased, 0
            stream.recv_window += due
            await stream.send_window_update(due)

    async def write(self, data: bytes) -> None:
        """Write whole frames. Never cancelled, then used on."""
        stream = self._stream
        assert stream is not None
        with _library():
            if len(data) > stream.send_window or stream.send_closed or stream.closed:
                await stream.write(data)
            else:
                await _Yamux.write_data(stream, data)

    def endpoints(self) -> tuple[Endpoint, Endpoint]:
        """Our end of the TCP connection, and the peer's."""
        socket = self._pipe.stream.socket
        with _library():  # a peer that has reset the connection has no address any more
            return Endpoint(*socket.getsockname()[:2]), Endpoint(*socket.getpeername()[:2])

    def greeted(self) -> None:
        """Let the peer send without end from now on."""
        self._pipe.left = None

    def close(self) -> None:
        """Give the socket back; twice is harmless."""
        self._pipe.stream.socket.close()


async def _echo(stream: YamuxStream) -> None:
    """Give each ping back, until the peer has enough, or has had many."""
    for _ in range(courtesies.PINGS):
        data = b""
        while len(data) < courtesies.PING_SIZE:
            more = await stream.read(courtesies.PING_SIZE - len(data))
            if not more:
                return
            data += more
        await stream.write(data)


async def _agree(channel: ReadWriteCloser, protocol: TProtocol, *, dialled: bool) -> None:
    """Settle on a protocol by multistream-select; the dialler proposes."""
    communicator = MultiselectCommunicator(channel)
    if dialled:
        await MultiselectClient().select_one_of([protocol], communicator)
    else:
        await Multiselect({protocol: None}).negotiate(communicator)


@final
class _Pipe(TrioTCPStream):
    """TCP that is read ahead, with a bound on what is read of a peer that has not greeted yet.

    The library believes any length that a stranger announces, and asks for as much at once. Its
    own locks are left out: one task reads, and yamux lets one write at a time.
    """

    left: int | None = defaults.LINK_SETUP_BYTES
    _ahead = b""
    _at = 0

    async def write(self, data: bytes) -> None:
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise ConnectionClosedError("TCP is gone") from error
        except trio.ClosedResourceError:
            pass  # by us: whoever writes hears of it elsewhere

    async def read(self, n: int | None = None) -> bytes:
        """What is there, else what comes: the library asks for two bytes, then for the rest."""
        if self._at == len(self._ahead):
            self._ahead, self._at = await self._receive(), 0
        data = self._ahead[self._at : self._at + (_READ if n is None else n)]
        self._at += len(data)
        if self.left is not None:
            self.left -= len(data)
            if self.left < 0:
                raise ConnectionClosedError("too much before the greeting")
        return data

    async def _receive(self) -> bytes:
        try:
            return bytes(await self.stream.receive_some(_READ))
        except trio.BrokenResourceError as error:
            raise ConnectionClosedError("TCP is gone") from error
        except trio.ClosedResourceError:
            return b""


@final
class _Yamux(Yamux):
    """yamux that holds a peer to a window, which the library only grumbles about."""

    async def _read_data_body(self, length: int) -> bytes:
        buffered = sum(map(len, self.stream_buffers.values()))
        if buffered + length > _MAX_BUFFERED:
            raise trio.TooSlowError  # the one error here by which it ends the connection
        return await super()._read_data_body(length)

    @staticmethod
    async def write_data(stream: YamuxStream, data: bytes) -> None:
        """What `stream.write` does where one task writes and the window has room.

        Without its three locks: each is a turn of the scheduler, and they cost more than to
        encrypt and to send.
        """
        stream.send_window -= len(data)
        head = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_DATA, 0, stream.stream_id, len(data))
        await stream.conn._write_frame(head + data)  # noqa: SLF001 - ours, below

    async def _write_frame(self, data: bytes) -> None:
        """The library takes each frame apart again, for a log that nobody reads."""
        try:
            self._write_lock.acquire_nowait()
        except trio.WouldBlock:
            await self._write_lock.acquire()
        try:
            await self.secured_conn.write(data)
        finally:
            self._write_lock.release()
