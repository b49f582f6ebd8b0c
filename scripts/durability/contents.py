"""Hashes, lists, sets, sorted sets and streams as the load knows them: what is in them, and a digest that tells two contents apart.

A digest is brought up to date with each change, as a history keeps one for each state of each key: order-independent, but for
lists, where it is a polynomial of the elements.
"""

from collections import deque
from hashlib import blake2b

MODULUS = (1 << 61) - 1
BASE = 1_000_003
BASE_INVERSE = pow(BASE, -1, MODULUS)


def hashed(*words):
    return int.from_bytes(blake2b(b"\0".join(words), digest_size=8).digest(), "big") % MODULUS


class Pairs:
    """A hash, a sorted set (members and scores), or a set (members and nothing)."""

    def __init__(self, kind, pairs=()):
        self.kind = kind
        self.items = {}
        self.digest = 0
        for key, value in pairs:
            self.put(key, value)

    def put(self, key, value):
        """Whether the key is new."""
        old = self.items.get(key)
        if old is not None:
            self.digest -= hashed(key, old)
        self.items[key] = value
        self.digest = (self.digest + hashed(key, value)) % MODULUS
        return old is None

    def remove(self, key):
        """Whether it was there."""
        old = self.items.pop(key, None)
        if old is not None:
            self.digest = (self.digest - hashed(key, old)) % MODULUS
        return old is not None

    def __len__(self):
        return len(self.items)

    def value(self):
        return b"%s of %d: %016x" % (self.kind, len(self.items), self.digest)


class List:
    kind = b"list"

    def __init__(self, elements=()):
        self.items = deque()
        self.digest = 0
        self.top = 1  # the base to the power of the length
        for element in elements:
            self.push_right(element)

    def push_right(self, element):
        self.digest = (self.digest + hashed(element) * self.top) % MODULUS
        self.top = self.top * BASE % MODULUS
        self.items.append(element)

    def push_left(self, element):
        self.digest = (self.digest * BASE + hashed(element)) % MODULUS
        self.top = self.top * BASE % MODULUS
        self.items.appendleft(element)

    def pop_left(self):
        element = self.items.popleft()
        self.digest = (self.digest - hashed(element)) * BASE_INVERSE % MODULUS
        self.top = self.top * BASE_INVERSE % MODULUS
        return element

    def pop_right(self):
        element = self.items.pop()
        self.top = self.top * BASE_INVERSE % MODULUS
        self.digest = (self.digest - hashed(element) * self.top) % MODULUS
        return element

    def __len__(self):
        return len(self.items)

    def value(self):
        return b"list of %d: %016x" % (len(self.items), self.digest)


class Stream:
    """Entries with one field each, and a group: what it has pending, for whom, and up to where it has read."""

    kind = b"stream"

    def __init__(self):
        self.entries = Pairs(b"entries")
        self.pending = Pairs(b"pending")  # identifier to consumer
        self.last = (0, 0)
        self.delivered = None  # there is no group

    def add(self, identifier, value):
        self.entries.put(written(identifier), value)
        self.last = identifier

    def trim(self, most):
        """How many went."""
        gone = list(self.entries.items)[: max(0, len(self.entries.items) - most)]
        return sum([self.entries.remove(name) for name in gone])

    def deliver(self, consumer, count):
        """[(name, value)] that the group had not read yet."""
        new = [(name, value) for name, value in self.entries.items.items() if parsed(name) > self.delivered][:count]
        for name, _ in new:
            self.pending.put(name, consumer)
            self.delivered = parsed(name)
        return new

    def __len__(self):
        return len(self.entries)

    def value(self):
        group = b"no group" if self.delivered is None else b"read to %s, %s" % (written(self.delivered), self.pending.value())
        return b"stream to %s, %s, %s" % (written(self.last), group, self.entries.value())


def written(identifier):
    return b"%d-%d" % identifier


def parsed(name):
    return tuple(int(part) for part in name.split(b"-"))


def read_stream(reply):
    """Of XINFO STREAM FULL with all entries."""
    figures, stream = dict(zip(reply[::2], reply[1::2])), Stream()
    for name, (_, value) in figures[b"entries"]:
        stream.add(parsed(name), value)
    stream.last = parsed(figures[b"last-generated-id"])
    for group in figures[b"groups"]:
        about = dict(zip(group[::2], group[1::2]))
        stream.delivered = parsed(about[b"last-delivered-id"])
        for name, consumer, *_ in about[b"pending"]:
            stream.pending.put(name, consumer)
    return stream


def reading(kind, name):
    """The command that tells what is at `name`."""
    if kind == b"stream":
        return b"XINFO", b"STREAM", name, b"FULL", b"COUNT", b"0"
    first, *more = READS[kind]
    return first, name, *more


READS = {
    b"string": (b"GET",),
    b"hash": (b"HGETALL",),
    b"list": (b"LRANGE", b"0", b"-1"),
    b"set": (b"SMEMBERS",),
    b"zset": (b"ZRANGE", b"0", b"-1", b"WITHSCORES"),
}


def read(kind, reply):
    """What the reply to `reading` says is there."""
    if kind == b"list":
        return List(reply)
    if kind == b"stream":
        return read_stream(reply)
    if kind == b"set":
        return Pairs(kind, ((member, b"") for member in reply))
    return Pairs(kind, zip(reply[::2], reply[1::2]))
