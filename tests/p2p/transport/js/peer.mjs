// Dials a node by multiaddr, opens the link and answers what it is asked until the node says bye:
// `dht.ping` by `dht.pong`, `monitored` by whether its connection monitor has had a sign of life,
// anything else by itself. Writes one line of JSON about what it saw.
//
//     peer.mjs MULTIADDR NETWORK
//
// The bytes are those of docs/protocol.md, "Links", written down here once more and on purpose.

import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { decode, encode } from '@msgpack/msgpack'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const PROTOCOL = '/tussah/link/1'
const [HELLO, , QUERY, ANSWER, CREDIT, PING, PONG, BYE] = Array(8).keys()
const MORE = 0x80
const HEAD = 13 // length u32, kind u8, number u64
const PIECE = 65_000 // bytes of payload in a frame; not the node's own choice
const PING_ID = '183febcb'
const PONG_ID = '81ef8a5a'

const hex = (bytes) => Buffer.from(bytes).toString('hex')

function frame(kind, number, payload = Buffer.alloc(0)) {
  const head = Buffer.alloc(HEAD)
  head.writeUInt32LE(HEAD - 4 + payload.length, 0)
  head.writeUInt8(kind, 4)
  head.writeBigUInt64LE(BigInt(number), 5)
  return Buffer.concat([head, payload])
}

async function* frames(stream) {
  let rest = Buffer.alloc(0)
  for await (const chunk of stream) {
    rest = Buffer.concat([rest, chunk.subarray()])
    while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32LE(0)) {
      const size = 4 + rest.readUInt32LE(0)
      const [kind, number] = [rest.readUInt8(4), rest.readBigUInt64LE(5)]
      yield { size, kind, number, payload: rest.subarray(HEAD, size) }
      rest = rest.subarray(size)
    }
  }
}

function answer(query, connection) {
  if (query.toString() === 'monitored') return Buffer.from([connection.rtt !== undefined])
  if (query.subarray(0, 4).toString('hex') !== PING_ID) return query
  return Buffer.concat([Buffer.from(PONG_ID, 'hex'), query.subarray(4, 12)])
}

async function serve(stream, connection) {
  const pieces = []
  const waiting = []
  let greeting
  let credit = 262_144
  let answered = 0
  const write = (bytes) => stream.send(bytes) || stream.onDrain()

  for await (const { size, kind, number, payload } of frames(stream)) {
    if (kind === BYE) return { greeting, answered }
    if (kind === HELLO) greeting = decode(payload)
    if (kind === PING) await write(frame(PONG, number))
    if (kind === CREDIT) credit += Number(number)
    if ((kind & ~MORE) === QUERY) {
      await write(frame(CREDIT, size))
      pieces.push(payload)
    }
    if (kind === QUERY) {
      const whole = answer(Buffer.concat(pieces.splice(0)), connection)
      for (let at = 0; at < whole.length; at += PIECE) {
        const more = at + PIECE < whole.length ? MORE : 0
        waiting.push(frame(ANSWER | more, number, whole.subarray(at, at + PIECE)))
      }
      answered += 1
    }
    while (waiting.length > 0 && waiting[0].length <= credit) {
      credit -= waiting[0].length
      await write(waiting.shift())
    }
  }
  throw new Error('the stream ended without a bye')
}

const [address, network] = process.argv.slice(2)
const node = await createLibp2p({
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify({ runOnConnectionOpen: false }), ping: ping() },
  // Asks for a ping, as it would by default every 10 s.
  connectionMonitor: { pingInterval: 200 }
})
try {
  const own = node.peerId.publicKey.raw
  const connection = await node.dial(multiaddr(address))
  const pinged = await node.services.ping.ping(multiaddr(address))
  const told = await node.services.identify.identify(connection)
  const stream = await connection.newStream(PROTOCOL)
  stream.send(frame(HELLO, 0, encode([1, Number(network), own, 0])))
  const { greeting, answered } = await serve(stream, connection)
  console.log(JSON.stringify({
    public: hex(own),
    greeting: [greeting[0], greeting[1], hex(greeting[2])],
    encryption: connection.encryption,
    multiplexer: connection.multiplexer,
    protocol: stream.protocol,
    pinged: pinged >= 0,
    identified: { agent: told.agentVersion, peer: told.peerId.toString(), protocols: told.protocols },
    answered
  }))
} finally {
  await node.stop()
}
