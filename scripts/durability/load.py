"""The load: many connections with pipelines, each the only writer of a database, and some that write the same keys.

Every reply is foreseen to the byte, so what comes is compared and never parsed. An operation is acknowledged when all of its
reply has come; one that gets anything else is refused if that is an error, and a bug otherwise.
"""

import asyncio
import random
import socket
import time

from durability.contents import List, Pairs, Stream, read, reading, written
from durability.history import History, Op, Slots, State, Twins

STRINGS, COUNTERS, BRIEFS = 20, 4, 4
KINDS = {b"h": b"hash", b"l": b"list", b"c": b"set", b"z": b"zset"}  # by the first letter of a key
SMALL, LARGE = 3, 2  # collections of each kind
# Elements of a small collection, which is small in the server, too, and of a large one: beyond, most go.
SMALL_MAX, LARGE_MAX = 40, 3_000
LARGE_CHANGES = 0.15  # of the operations on collections
STREAMS_MAX = {b"x0": 30, b"x1": 30, b"x+": 600}  # entries of each, about
OUTSTANDING_MAX = 48  # operations of one connection without their answers
VALUE_BYTES_MAX = 12_000  # a string is not appended to beyond
TWIN_WRITERS = 4


def command(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


OK = b"+OK\r\n"
POOL = random.Random(1).randbytes(1 << 17).hex().encode()


class Writer:
    """Makes the operations of one connection, and knows what each leaves."""

    def __init__(self, number, seed, state):
        self.number = number
        self.random = random.Random(seed)
        self.state = state  # {name: State}, of what is there
        self.made = 0
        self.strings = [b"s%d" % at for at in range(STRINGS)]
        self.counters = [b"n%d" % at for at in range(COUNTERS)]
        self.briefs = [b"b%d" % at for at in range(BRIEFS)]
        names = [(kind, size, at) for kind in KINDS for size, count in ((b"", SMALL), (b"+", LARGE)) for at in range(count)]
        self.collections = [kind + size + b"%d" % at for kind, size, at in names]
        self.streams = list(STREAMS_MAX)
        self.kinds = [
            (self.set, 30), (self.append, 12), (self.delete, 6), (self.expire, 6), (self.increment, 10),
            (self.rename, 5), (self.set_several, 8), (self.set_brief, 3), (self.get, 4),
            (self.add, 22), (self.take, 12), (self.rename_collection, 2),
            (self.stream, 14),
        ]  # fmt: skip

    def names(self):
        return self.strings + self.counters + self.briefs + self.collections + self.streams

    def next(self, calm=False):
        """The next operation. `calm`: none that empties the database."""
        self.changes = {}
        draw = self.random.random()
        if draw < 0.002 and not calm:
            self.change_all()
            name, requests, replies = "FLUSHDB", command("FLUSHDB"), OK
        elif draw < 0.15:
            name, requests, replies = self.multi()
        else:
            name, requests, replies = self.one()
        changes = {(self.number, key): state for key, state in self.changes.items()}
        op = Op(name, self.number, requests, replies, changes)
        for state in self.changes.values():
            if state is not None and state.op is self:
                state.op = op
        return op

    def one(self):
        make = self.random.choices([kind for kind, _ in self.kinds], [weight for _, weight in self.kinds])[0]
        request, reply = make()
        return request[request.index(b"\n", 4) + 1 :].split(b"\r", 1)[0].decode(), request, reply

    def multi(self):
        parts = [self.one() for _ in range(self.random.randint(2, 5))]
        requests = command("MULTI") + b"".join(request for _, request, _ in parts) + command("EXEC")
        replies = OK + b"+QUEUED\r\n" * len(parts) + b"*%d\r\n" % len(parts) + b"".join(reply for _, _, reply in parts)
        return "MULTI of " + " ".join(name for name, _, _ in parts), requests, replies

    def change(self, key, state):
        self.changes[key] = state
        if state is None:
            self.state.pop(key, None)
        else:
            self.state[key] = state

    def change_all(self):
        for key in self.names():
            self.change(key, None)

    def value(self):
        """Unique, and no two stretches of it alike: a torn one is none."""
        self.made += 1
        low, high = self.random.choice([(0, 200)] * 60 + [(200, 2_000)] * 32 + [(2_000, 9_000)] * 7 + [(9_000, 60_000)])
        at = self.random.randrange(len(POOL) // 2)
        return b"%d.%d.%.6f." % (self.number, self.made, time.time()) + POOL[at : at + self.random.randint(low, high)]

    def set(self):
        key, value = self.random.choice(self.strings), self.value()
        self.change(key, State(value))
        return command("SET", key, value), OK

    def append(self):
        key, value = self.random.choice(self.strings), self.value()
        before = self.state.get(key)
        if before is not None and len(before.value) > VALUE_BYTES_MAX:
            self.change(key, State(value))
            return command("SET", key, value), OK
        after = State(value) if before is None else State(before.value + value, before.deadline)
        self.change(key, after)
        return command("APPEND", key, value), b":%d\r\n" % len(after.value)

    def delete(self):
        keys = self.random.sample(self.strings, self.random.randint(1, 3)) + self.random.sample(self.counters, 1)
        if self.random.random() < 0.2:
            keys.append(self.random.choice(self.collections + self.streams))
        there = sum(key in self.state for key in keys)
        for key in keys:
            self.change(key, None)
        return command("DEL", *keys), b":%d\r\n" % there

    def expire(self):
        key = self.random.choice(self.random.choice([self.strings, self.collections, self.streams]))
        before = self.state.get(key)
        if before is None:
            return command("PERSIST", key), b":0\r\n"
        if before.deadline is not None and self.random.random() < 0.5:
            self.change(key, State(before.value, content=before.content))
            return command("PERSIST", key), b":1\r\n"
        seconds = self.random.randint(10, 10_000) * 100
        self.change(key, State(before.value, time.time() * 1_000 + seconds * 1_000, content=before.content))
        return command("EXPIRE", key, seconds), b":1\r\n"

    def increment(self):
        key = self.random.choice(self.counters)
        before = self.state.get(key)
        value = 1 + (int(before.value) if before else 0)
        self.change(key, State(b"%d" % value))
        return command("INCR", key), b":%d\r\n" % value

    def rename(self):
        there = [key for key in self.strings if key in self.state]
        if not there:
            return self.set()
        key, to = self.random.choice(there), self.random.choice(self.strings)
        if key != to:
            moved = self.state[key]
            self.change(to, moved)
            self.change(key, None)
        return command("RENAME", key, to), OK

    def set_several(self):
        keys = self.random.sample(self.strings, self.random.randint(2, 4))
        pairs = [(key, self.value()) for key in keys]
        for key, value in pairs:
            self.change(key, State(value))
        return command("MSET", *(word for pair in pairs for word in pair)), OK

    def set_brief(self):
        key, value, brief = self.random.choice(self.briefs), self.value(), self.random.randint(50, 3_000)
        self.change(key, State(value, time.time() * 1_000 + brief, brief, self))
        return command("SET", key, value, "PX", brief), OK

    def collection(self):
        """One of them, what is in it, and how many of its elements an operation is about."""
        is_large = self.random.random() < LARGE_CHANGES
        key = self.random.choice([key for key in self.collections if (key[1:2] == b"+") == is_large])
        before = self.state.get(key)
        kind = KINDS[key[:1]]
        content = before.content if before else List() if kind == b"list" else Pairs(kind)
        most = LARGE_MAX if is_large else SMALL_MAX
        return key, before, content, most, self.random.randint(1, most // 8)

    def change_collection(self, key, before, content):
        deadline = before.deadline if before else None
        self.change(key, State(content.value(), deadline, content=content) if len(content) else None)

    def element(self, most):
        """Few, so that they meet. The longest make a collection large by themselves."""
        number = self.random.randrange(most * 3 // 2)
        return b"%d" % number if number % 3 else b"element-%d-" % number + POOL[: number % (90 if most == LARGE_MAX else 30)]

    def add(self):
        key, before, content, most, count = self.collection()
        if len(content) + count > most:
            return self.take_most(key, before, content)
        elements = [self.element(most) for _ in range(count)]
        if content.kind == b"list":
            name, push = self.random.choice([("RPUSH", content.push_right), ("LPUSH", content.push_left)])
            for element in elements:
                push(element)
            words, reply = elements, len(content)
        elif content.kind == b"set":
            name, words = "SADD", elements
            reply = sum([content.put(member, b"") for member in elements])
        else:
            values = [b"%d" % self.random.randrange(-1_000_000, 1_000_000) for _ in elements]
            reply = sum([content.put(*pair) for pair in zip(elements, values)])
            if content.kind == b"hash":
                name, words = "HSET", [word for pair in zip(elements, values) for word in pair]
            else:
                name, words = "ZADD", [word for pair in zip(values, elements) for word in pair]
        self.change_collection(key, before, content)
        return command(name, key, *words), b":%d\r\n" % reply

    def take(self):
        key, before, content, most, count = self.collection()
        if content.kind == b"list":
            return self.pop(key, before, content, count) if before else self.add()
        elements = [self.element(most) for _ in range(count)]
        reply = sum([content.remove(element) for element in elements])
        if reply:
            self.change_collection(key, before, content)
        return command({b"hash": "HDEL", b"set": "SREM", b"zset": "ZREM"}[content.kind], key, *elements), b":%d\r\n" % reply

    def pop(self, key, before, content, count):
        name, pop = self.random.choice([("LPOP", content.pop_left), ("RPOP", content.pop_right)])
        popped = [pop() for _ in range(min(count, len(content)))]
        self.change_collection(key, before, content)
        reply = b"".join(b"$%d\r\n%s\r\n" % (len(element), element) for element in popped)
        return command(name, key, count), b"*%d\r\n" % len(popped) + reply

    def take_most(self, key, before, content):
        if content.kind == b"list" and self.random.random() < 0.7:
            return self.pop(key, before, content, len(content) * 3 // 4)
        self.change(key, None)
        return command(self.random.choice(["DEL", "UNLINK"]), key), b":%d\r\n" % (before is not None)

    def rename_collection(self):
        there = [key for key in self.collections if key in self.state]
        if not there:
            return self.add()
        key = self.random.choice(there)
        to = self.random.choice([other for other in self.collections if other[:2] == key[:2] or other[:1] == key[:1]])
        if (key[1:2] == b"+") != (to[1:2] == b"+"):
            to = key
        if key != to:
            moved = self.state[key]
            self.change(to, moved)
            self.change(key, None)
        return command("RENAME", key, to), OK

    def stream(self):
        key = self.random.choice(self.streams)
        before = self.state.get(key)
        content = before.content if before else Stream()
        draw = self.random.random()
        if before is None or draw < 0.45:
            made = self.add_entry(key, content)
        elif content.delivered is None:
            content.delivered = (0, 0)
            made = command("XGROUP", "CREATE", key, "g", 0), OK
        elif draw < 0.65:
            made = self.read_group(key, content)
        elif draw < 0.8:
            names = self.some(content.pending)
            made = command("XACK", key, "g", *names), b":%d\r\n" % sum([content.pending.remove(name) for name in names])
        elif draw < 0.9 or len(content) < STREAMS_MAX[key]:
            names = self.some(content.entries)
            made = command("XDEL", key, *names), b":%d\r\n" % sum([content.entries.remove(name) for name in names])
        else:
            most = self.random.randrange(STREAMS_MAX[key])
            made = command("XTRIM", key, "MAXLEN", most), b":%d\r\n" % content.trim(most)
        deadline = before.deadline if before else None
        self.change(key, State(content.value(), deadline, content=content))
        return made

    def add_entry(self, key, content):
        ms, _ = content.last
        identifier = (ms + self.random.randrange(1, 4), self.random.randrange(3))
        self.made += 1
        value = b"%d.%d." % (self.number, self.made) + POOL[: self.random.randrange(200)]
        content.add(identifier, value)
        name = written(identifier)
        return command("XADD", key, name, "f", value), b"$%d\r\n%s\r\n" % (len(name), name)

    def read_group(self, key, content):
        consumer, count = self.random.choice([b"a", b"b"]), self.random.randint(1, 12)
        entries = content.deliver(consumer, count)
        reply = b"*-1\r\n"
        if entries:
            bulk = lambda text: b"$%d\r\n%s\r\n" % (len(text), text)  # noqa: E731
            told = b"".join(b"*2\r\n" + bulk(name) + b"*2\r\n" + bulk(b"f") + bulk(value) for name, value in entries)
            reply = b"*1\r\n*2\r\n" + bulk(key) + b"*%d\r\n" % len(entries) + told
        return command("XREADGROUP", "GROUP", "g", consumer, "COUNT", count, "STREAMS", key, ">"), reply

    def some(self, pairs):
        """Names of a few of them, and one that never was."""
        return self.random.sample(list(pairs.items), min(len(pairs.items), self.random.randint(1, 5))) + [b"0-1"]

    def get(self):
        key = self.random.choice(self.strings)
        there = self.state.get(key)
        return command("GET", key), b"$-1\r\n" if there is None else b"$%d\r\n%s\r\n" % (len(there.value), there.value)


class Connection(asyncio.Protocol):
    """Sends operations and matches their replies."""

    def __init__(self, load):
        self.load = load
        self.waiting = []  # operations without their whole reply, oldest first
        self.buffer = bytearray()
        self.open = False
        self.progress = asyncio.Event()

    def connection_made(self, transport):
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.transport = transport
        self.open = True

    def connection_lost(self, _error):
        self.open = False
        self.progress.set()

    def data_received(self, data):
        if not self.open:
            return
        self.buffer += data
        now, wall = time.monotonic(), time.time() * 1_000
        at = done = 0
        for op in self.waiting:
            expected = op.expected
            if not self.buffer.startswith(expected, at):
                rest = bytes(self.buffer[at : at + len(expected)])
                if not expected.startswith(rest):
                    self.other_reply(op, bytes(self.buffer[at : at + 200]))
                break
            op.acked, op.acked_wall = now, wall
            at += len(expected)
            done += 1
        del self.buffer[:at], self.waiting[:done]
        self.progress.set()

    def other_reply(self, op, reply):
        op.refused = True
        lines = reply.split(b"\r\n")
        if not any(line.startswith(b"-") for line in lines):
            self.load.wrong.append(f"{op} got {reply[:120]!r} for {op.expected[:120]!r}")
        else:
            self.load.refusals.append(next(line for line in lines if line.startswith(b"-")).decode(errors="replace"))
        self.open = False
        self.transport.close()

    def send(self, ops):
        now, wall = time.monotonic(), time.time() * 1_000
        for op in ops:
            op.sent, op.sent_wall = now, wall
        self.waiting += ops
        self.transport.write(b"".join(op.request for op in ops))

    async def until_waiting(self, most):
        while self.open and len(self.waiting) > most:
            self.progress.clear()
            await self.progress.wait()
        return self.open


class Load:
    """One stretch of load, until the server is gone or `stop` is called."""

    def __init__(self, port, seed, connections, history, twins, databases):
        self.port = port
        self.random = random.Random(seed)
        self.history = history
        self.twins = twins
        self.databases = databases  # {number: {name: State}}
        self.connections = connections
        self.wrong = []
        self.refusals = []
        self.snapshots = 0
        self.flushes = 0
        self.stopping = False
        self.paused = False
        self.resting = 0
        self.driving = 0
        self.values = 0

    def stop(self):
        self.stopping = True

    async def run(self, snapshots, flush_all):
        seeds = [self.random.getrandbits(64) for _ in range(self.connections + TWIN_WRITERS)]
        tasks = [self.drive(number + 1, seeds[number]) for number in range(self.connections)]
        tasks += [self.drive_twins(number, seeds[self.connections + number]) for number in range(TWIN_WRITERS)]
        others = []
        if snapshots:
            others.append(asyncio.create_task(self.take_snapshots()))
        if flush_all:
            others.append(asyncio.create_task(self.flush_all()))
        await asyncio.gather(*(self.quietly(task) for task in tasks))
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def quietly(self, task):
        self.driving += 1
        try:
            await task
        except OSError:
            pass  # the server is gone
        finally:
            self.driving -= 1

    async def connect(self):
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self.port)
        return connection

    async def select(self, number):
        connection = await self.connect()
        connection.send([Op("SELECT", number, command("SELECT", number), OK, {})])
        await connection.until_waiting(0)
        return connection

    async def drive(self, number, seed):
        writer = Writer(number, seed, self.databases[number])
        connection = await self.select(number)
        while connection.open and not self.stopping:
            await self.rest(connection)
            ops = [writer.next() for _ in range(writer.random.choice([1, 1, 2, 4, 8, 16]))]
            if not connection.open:
                break
            for op in ops:
                self.history.add(op)
            connection.send(ops)
            # Mostly a window, sometimes all of it: the next pipeline meets the end of the last.
            await connection.until_waiting(writer.random.choice([0, OUTSTANDING_MAX // 4, OUTSTANDING_MAX]))
            await asyncio.sleep(writer.random.random() * 0.02)
        await connection.until_waiting(0)
        connection.transport.close()

    async def drive_twins(self, number, seed):
        draw = random.Random(seed)
        connection = await self.select(0)
        while connection.open and not self.stopping:
            await self.rest(connection)
            self.values += 1
            value = b"%d:%d:%.6f:" % (number, self.values, time.time()) + POOL[: draw.randrange(600)]
            pairs = [word for key in self.twins.keys for word in (key, value)]
            if draw.random() < 0.5:
                request, reply = command("MSET", *pairs), OK
            else:
                sets = b"".join(command("SET", key, value) for key in self.twins.keys)
                count = len(self.twins.keys)
                request = command("MULTI") + sets + command("EXEC")
                reply = OK + b"+QUEUED\r\n" * count + b"*%d\r\n" % count + OK * count
            if not connection.open:
                break
            op = Op("twins", -number - 1, request, reply, {(0, key): State(value) for key in self.twins.keys})
            self.twins.ops.append((op, value))
            connection.send([op])
            await connection.until_waiting(draw.choice([0, 3]))
            await asyncio.sleep(draw.random() * 0.02)
        await connection.until_waiting(0)
        connection.transport.close()

    async def rest(self, connection):
        """While everything is emptied, nobody has anything under way: so all know what came before it."""
        if not self.paused or not await connection.until_waiting(0):
            return
        self.resting += 1
        while self.paused and connection.open:
            await asyncio.sleep(0.001)
        self.resting -= 1

    async def flush_all(self):
        await asyncio.sleep(self.random.random() * 0.5)
        connection = await self.select(0)
        self.paused = True
        while self.resting < self.driving and connection.open:
            await asyncio.sleep(0.001)
        if not connection.open:
            return
        everything = {}
        for number, state in self.databases.items():
            everything.update({(number, key): None for key in Writer(number, 0, {}).names()})
            state.clear()
        op = Op("FLUSHALL", 0, command("FLUSHALL"), OK, everything)
        self.history.add(op)
        self.twins.ops.append((op, None))
        connection.send([op])
        await connection.until_waiting(0)
        if op.acked is not None:
            self.flushes += 1
            self.paused = False
        # Else nobody can tell what is there, and so what to expect: all rest until the server is gone.

    async def take_snapshots(self):
        """At random moments; a server that has none says so, and is not asked again."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while True:
            await asyncio.sleep(self.random.random() * 0.4)
            writer.write(command(self.random.choice(["BGSAVE", "BGREWRITEAOF"])))
            reply = await reader.readline()
            if not reply or b"unknown command" in reply.lower():
                return
            self.snapshots += reply.startswith(b"+")


class Client:
    """A plain connection for reading what is there."""

    def __init__(self, port, timeout=60):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def close(self):
        self.file.close()
        self.socket.close()

    def call(self, *commands):
        self.socket.sendall(b"".join(command(*words) for words in commands))
        return [self.reply() for _ in commands]

    def reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            raise RuntimeError(f"the server says {rest.decode(errors='replace')}")
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        raise RuntimeError(f"unexpected reply {line!r}")


def read_everything(port, databases):
    """{key: State} of databases 0 to `databases` - 1, and when the reading began and ended."""
    client = Client(port)
    found = {}
    try:
        begun_ms = time.time() * 1_000
        for number in range(databases):
            names = client.call(("SELECT", number), ("KEYS", "*"))[1]
            kinds = client.call(*(("TYPE", name) for name in names)) if names else []
            there = [(name, kind) for name, kind in zip(names, kinds) if kind != b"none"]
            words = [words for name, kind in there for words in (reading(kind, name), ("PTTL", name))]
            replies = client.call(*words) if words else []
            for (name, kind), value, ttl in zip(there, replies[::2], replies[1::2]):
                if value in (None, []) or ttl == -2:  # it expired in between
                    continue
                deadline = time.time() * 1_000 + ttl if ttl >= 0 else None
                content = None if kind == b"string" else read(kind, value)
                found[number, name] = State(value if content is None else content.value(), deadline, content=content)
    finally:
        client.close()
    return found, (begun_ms, time.time() * 1_000)


def digest(port):
    client = Client(port)
    try:
        return client.call(("DEBUG", "DIGEST"))[0]
    finally:
        client.close()


class World:
    """What is known to be there, and what is going on since."""

    def __init__(self, connections, shards):
        self.connections = connections
        self.shards = shards
        # One per shard at least, found by trying.
        slots, twins, at = Slots(shards), {}, 0
        while len(twins) < min(shards, 8):
            twins.setdefault(slots(b"twin%d" % at), b"twin%d" % at)
            at += 1
        self.twin_keys = sorted(twins.values())
        self.found = {}
        self.begin()

    def begin(self):
        self.history = History({key: state for key, state in self.found.items() if key[0] != 0})
        twin = self.found.get((0, self.twin_keys[0]))
        self.twins = Twins(self.twin_keys, None if twin is None else twin.value)
        self.databases = {number + 1: {} for number in range(self.connections)}
        for (number, name), state in self.found.items():
            if number:
                self.databases[number][name] = state

    def load(self, port, seed):
        return Load(port, seed, self.connections, self.history, self.twins, self.databases)

    def end_briefs(self, port):
        """Removes what may expire by itself before long."""
        client = Client(port)
        for (number, name), state in list(self.found.items()):
            if state.brief:
                client.call(("SELECT", number), ("DEL", name))
                del self.found[number, name]
        client.close()
        self.begin()

    def verify(self, port, shards):
        """Reads everything and compares; what is there is the truth from here on."""
        found, read_ms = read_everything(port, self.connections + 1)
        own = {key: state for key, state in found.items() if key[0] != 0}
        verdict = self.history.verify(own, read_ms, Slots(shards))
        values = [found.get((0, key)) for key in self.twin_keys]
        self.twins.verify([None if state is None else state.value for state in values], verdict)
        strangers = [key for key in found if key[0] == 0 and key[1] not in self.twin_keys]
        if strangers:
            verdict.damage.append(f"keys that nobody wrote: {strangers[:4]}")
        for (_, name), state in found.items():
            state.brief = int(name.startswith(b"b") and state.deadline is not None)
        self.found = found
        self.begin()
        return verdict
