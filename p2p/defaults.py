"""Every number the protocol fixes, with its unit and the reason for it.

Byte layouts stand beside their codec (`p2p/onion/cell.py`); what stands here are the bounds and
times that two nodes must agree on or that a user may feel.
"""

# --- adverts and the directory ---

MAX_ADVERT = 768
"""bytes: one ADNL simple broadcast of TON holds no more."""

MAX_ADVERTS = 65_536
"""adverts kept: 26 MB at the mean size of 390 bytes."""

EPOCH = 600.0
"""seconds: directory epoch; short, since it decides how long a newcomer waits to be seen."""

DEV_EPOCH = 10.0
"""seconds: directory epoch of a dev network, where people watch."""

LIFE_EPOCHS = 144
"""epochs: longest life of an advert, a day."""

DEV_LIFE_EPOCHS = 150
"""epochs: longest life of an advert in a dev network, 25 minutes."""

USUAL_LIFE_EPOCHS = 6
"""epochs an advert lives: while each is issued anew every epoch, three may be lost."""

STALE_EPOCHS = 18
"""epochs: 3 hours without news, after which no path is chosen from a directory."""

CLOCK_SLACK = 60
"""seconds: how far ahead of ours a peer's clock may run."""

REQUEST_CAP = 4_096
"""KiB: largest request of a worker whose advert names none."""

ADVERTS_PER_SUBNET = 32
"""dialable nodes listed per /24 or /48: addresses are cheap in blocks."""

ADVERTS_PER_ATTACHMENT = 512
"""adverts: of nodes that cannot be dialled, per relay that holds their links and carries them."""

MAX_SYNC_ANSWER = 524_288
"""bytes of adverts in one answer: a thousand of them, a second of a home line; more is refused."""

SYNC_ANSWER = 131_072
"""bytes of adverts in one answer that we give: 300 signatures are 15 ms of the asker's time."""

SYNC_CALLS = 300
"""directory calls answered per peer and epoch: 30 a minute."""

SYNC_PULLS = 3
"""full lists answered per peer and epoch: a restart or two, not a siphon."""

SYNC_INTERVAL = 30.0
"""seconds between two calls for what is new: an advert reaches everybody within a minute."""

DEV_SYNC_INTERVAL = 1.0
"""seconds, as above in a dev network: people watch it start."""

CALL_TIMEOUT = 10.0
"""seconds of a directory call: a full answer over a slow line; then its server counts as gone."""

MAX_CALL = 16_384
"""bytes of a call between nodes, and of its answer: a purchase of 64 credits takes half of it."""

CALLS_OUTSTANDING = 64
"""calls of ours to one peer that are under way or wait: a worker's sessions at one mint."""

CALLS_OPEN = 16
"""calls of one peer that wait for our answer: what a mint writes in one commit, from a few."""

CALL_LIFE = 30.0
"""seconds after which a call that we have not answered is forgotten: its asker left after 10."""

CALL_RATE, CALL_BURST = 100.0, 200.0
"""calls a second of one peer, and at once: a mint checks a lock in 1 to 8 ms of one core."""

CALL_PEERS = 4_096
"""peers whose rate of calls is remembered: as many as links that may be open."""

RETRY_FIRST, RETRY_LAST = 1.0, 60.0
"""seconds between attempts to reach a directory server: doubled from the first to the last."""

DEV_RETRY_LAST = 4.0
"""seconds, as above in a dev network: its bootstrap peer starts in the same moment."""

# --- onion circuits ---

HELLO_TIMEOUT = 10.0
"""seconds for the first frame of a link: three round trips of a bad line."""

HALF_CREATE_LIFE = 5.0
"""seconds the first frame of a CREATE waits for the second: they were sent together."""

BUILD_TIMES = (9.0, 8.0, 7.0, 6.0)
"""seconds a hop at depth 1-4 waits for the rest of the path: the inner one answers first."""

ANSWER_TIME = 6.0
"""seconds the endpoint's application has to accept or refuse: less than any relay waits."""

OPEN_TIMEOUT = 10.0
"""seconds the asker waits for a circuit: one more than the guard."""

RESUME_TIME = 30.0
"""seconds both ends keep a request whose circuit broke: twice the pause that an asker may see."""

RESUME_OPEN = 5.0
"""seconds the asker waits for a circuit to go on with: a third of the pause that it may see."""

CIRCUIT_QUIET = 5.0
"""seconds an endpoint owes a sign before its circuit counts as broken: a third of that pause."""

KEPT_CIRCUITS = 64
"""broken circuits whose answers an endpoint keeps: as many as one asker may have."""

KEPT_BYTES = 64 * 1024 * 1024
"""bytes of answers that an endpoint keeps to say them again: hundreds of usual length."""

GONE_TIME = 30.0
"""seconds an ended circuit's id is ignored: frames sent before the end are no offence."""

CIRCUIT_LIFE = 3_600.0
"""seconds: a circuit closes after an hour whatever it carries; paths must not grow old."""

CIRCUIT_IDLE = 600.0
"""seconds without a cell after which the asker closes a circuit: relays should not keep it."""

LINK_IDLE = 600.0
"""seconds without circuits after which a link is closed: a new one costs 3 round trips."""

CREATE_WINDOW = (300.0, 60.0)
"""seconds a CREATE may be older, and younger, than the hop's clock: laptops drift."""

QUIET_TIME = 60.0
"""seconds after a restart: a CREATE issued before may be a replay whose tag died with us."""

REPLAY_HALF = 400.0
"""seconds between swaps of the two sets of replay tags: more than CREATE_WINDOW together."""

CREDIT_CELLS = 64
"""cells a circuit may have in flight on a link: 7 Mbit/s at 80 ms."""

CREDIT_DUE = 16
"""cells after which credit is returned: a quarter, so that the sender never waits for it."""

LANE_TIME = 10.0
"""seconds an ended circuit's last frames may wait: a receiver slower than this is dead."""

WRITES_PER_SECOND = 100
"""writes/s of a link with fewer than 54 frames: each costs 0.2-0.26 ms whatever its size."""

WRITE_BURST = 20
"""such writes at once before the rate holds: the first cells of an answer never wait."""

STRIKES = 3
"""offences until a link is closed: a race of two ends can look like one or two."""

PADDING_UNLISTED = (1.5, 9.5)
"""seconds of silence, uniform, before PADDING to unlisted peers: idle should not show."""

PADDING_LISTED = (10.0, 20.0)
"""seconds, the same between listed nodes: their links carry cells of many anyway."""

CREATES_UNLISTED = (10.0, 50)
"""CREATEs per second and burst of an unlisted link: one asker's retries, many times over."""

CREATES_LISTED = (200.0, 200)
"""CREATEs per second and burst of a listed link: 2.4 % of a core."""

CREATES_FAIR = (800.0, 800)
"""CREATEs per second and burst of the node that links asking for little share: 10 % of a core."""

CREATES_EXCESS = (200.0, 200)
"""CREATEs per second and burst of the node beside those: 2 % of a core."""

FAIR_UNLISTED = (1.0, 3)
"""CREATEs per second and burst that are little for an unlisted link: one asker's, and a retry."""

FAIR_LISTED = (50.0, 50)
"""CREATEs per second and burst that are little for a listed link: those of fifty askers."""

HALF_CREATES = 32
"""half CREATEs kept per link: 38 kB."""

CIRCUITS_UNLISTED = 64
"""open circuits of an unlisted link: one asker's conversations."""

CIRCUITS_LISTED = 4_096
"""open circuits of a listed link: those of all clients that one relay brings."""

CIRCUITS_NODE = 20_000
"""circuits of a node: five listed links at their most."""

LINKS_UNLISTED = 2_000
"""links of unlisted peers a node keeps: many times the askers that a home relay can carry."""

LINKS_LISTED = 512
"""links of listed peers a node keeps: more relays than one circuit load needs."""

QUEUES_HIGH = 64 * 1024 * 1024
"""bytes of queued cells in a node: above it the circuits with the oldest cells end."""

QUEUES_LOW = 48 * 1024 * 1024
"""bytes down to which they end: a quarter free, so that it is not at once again."""

UPLOAD_CAP = 4 * 1024 * 1024
"""bytes that either end of a circuit may have queued to send: the longest message."""

LEAST_UPLOAD = 4
"""cells that a shaped request's upload is padded to at least: most questions, with their coins."""

FIRST_BUCKET = 8
"""seconds of a shaped answer, doubled up to LONG_BUCKET: seven lengths tell little of a text."""

LONG_BUCKET = 1_024
"""seconds in whose multiples a longer one is filled up: doubled, an hour would become two."""

ANSWER_RATES = (4, 10)
"""cells/s of a shaped answer, as its asker chooses: a token stream fills 60 of 1,116 bytes, so four
are enough to read along; ten for who cannot wait a quarter of a second."""

LINK_PACE = 4
"""frames/s of a paced link each way: 415 MB a day, which a home line does not notice."""

PACE_LIFE = 3_600.0
"""seconds of a pace that is asked: anew at half of it, so that one loss does no harm."""

PACED_LINKS = 64
"""clients a guard sends frames to day and night: 300 kB/s."""

STREAMS = 64
"""requests on one circuit: then a new path with the same guard, as paths must not grow old."""

GUARDS = 3
"""first relays a node keeps to: two in reserve, as the first reachable one is used."""

GUARD_LIFE = (45 * 86_400.0, 75 * 86_400.0)
"""seconds a guard is kept, uniform: long, as each new one is another chance for a bad one."""

GUARD_DOWN = 600.0
"""seconds the next guard is used before an unreachable one is probed: a restart takes less."""

OPERATOR_SHARE = 0.05
"""share of all draws that one operator's relays get together at most: a Sybil's ceiling."""

OPERATORS_FOR_SHARE = 40
"""operators from which OPERATOR_SHARE holds: with fewer it would flatten honest weights."""

BIAS_TRIES = 20
"""paths through a guard before its rate of success is judged: fewer could be bad luck."""

BIAS_RATE = 0.5
"""share of tries that must get past the guard: an honest one gets most of them past."""

BIAS_BAN = 7 * 86_400.0
"""seconds a guard that fails this is not used: long enough to make denial dear."""

PATH_DRAWS = 50
"""draws of a path before there is none: with half the pairs apart all fail once in 2^50."""

SYNC_PEERS = 4_096
"""peers: whose directory calls are counted; the one unheard of for longest is forgotten."""

SERVERS_MET = 1_024
"""servers: asked for the directory and remembered, so that paths keep apart from them."""

PUBLISHES = 10
"""adverts taken from a node per epoch: one a minute."""

PUBLISH_BURST = 3
"""adverts: taken from a node at once, as it may start, be measured and change its plan."""

NEW_NODES = 20
"""adverts of nodes not listed before that are taken a second: 5 % of a core."""

NEW_NODES_BURST = 100
"""of them at once: a network that starts together."""

# --- links over libp2p ---

LINK_CREDIT = 262_144
"""bytes an end may send before the other returns credit: 21 Mbit/s at 100 ms."""

LINK_QUEUE = 4 * 1024 * 1024 + 65_536
"""bytes queued to be written on a link: two of the longest messages; then the link is dropped."""

LINK_HELLO_TIMEOUT = 5.0
"""seconds: the greeting of a link is one round trip, and an idle connection costs a socket."""

LINK_SETUP_TIMEOUT = 10.0
"""seconds for TCP, Noise, yamux and the greeting together: six round trips of a very bad line."""

LINK_SETUP_BYTES = 65_536
"""bytes: read from a peer before its greeting; a set-up takes about 1 kB."""

LINKS_KEPT = 512
"""links a relay keeps to nodes that cannot be dialled: as many of them name one relay at most."""

LINKS_ARRIVING = 128
"""inbound connections not yet greeted: 3 ms of CPU each."""

LINK_DIALS = 64
"""dials: under way at once, so that a stale directory cannot exhaust the sockets; more wait."""

LINK_KNOCKS = 16
"""dials that others ask us for, beside those: under way at once; more are not made."""

LINK_LEAVE_TIMEOUT = 5.0
"""seconds: a link that we close has so long to write what is queued and see the peer close."""

PING_INTERVAL = 10.0
"""seconds: between the pings of a link; libp2p does not notice a half-open peer at all."""

PINGS_LOST = 3
"""pings: without any sign of life until a link is dead; one lost packet must not end circuits."""

REDIAL_FIRST, REDIAL_LAST = 0.1, 5.0
"""seconds before a peer that could not be reached is dialled again: doubled, first to last."""

REDIAL_TABLE = 1_024
"""peers: unreachable ones that are remembered for it; beyond, the oldest may be dialled early."""
