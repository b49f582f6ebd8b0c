"""What was sent and acknowledged, and what may be found of it after a crash.

The rule. A crash keeps a set of the operations such that, key by key, what is kept is a prefix of what was sent (each key has
one writer, whose pipeline takes effect in order), an operation on several keys is kept on all of them or on none, and
nothing acknowledged is missing that the policy promises. For each key, the states that the found one equals give the
lengths that its prefix may have; operations on several keys tie these lengths together. What contradicts itself is damage:
a state that never was, or half an operation. Lost is what even the most favourable explanation lacks.
"""

TTL_SLACK_BEFORE_MS = 1_000
TTL_SLACK_AFTER_MS = 15_000  # from sending a command to its execution, on a busy machine
ANSWER_SECONDS = 0.05  # within which a shard that holds nothing back acknowledges
BRIEF_SLACK_MS = 2_000  # from a deadline to the latest time the key may still be seen


class State:
    """Of a key that is there: its value (a collection's digest) and its deadline (wall clock, milliseconds), if any."""

    __slots__ = ("value", "deadline", "brief", "op", "content")

    def __init__(self, value, deadline=None, brief=0, op=None, content=None):
        self.value = value
        self.content = content  # a collection as it is after the latest operation, for whoever makes the next
        self.deadline = deadline
        self.brief = brief  # milliseconds to live, if that may end before it is read
        self.op = op  # that set it

    def is_found(self, found, read_ms):
        """Whether a reading may give `found`, a State or None; `read_ms` is when it began and when it ended."""
        if self.brief:
            if found is None:
                return read_ms[1] >= self.deadline - TTL_SLACK_BEFORE_MS
            acked = self.op is not None and self.op.acked_wall
            late = acked and read_ms[0] > acked + self.brief + BRIEF_SLACK_MS
            return found.value == self.value and found.deadline is not None and not late
        if found is None or found.value != self.value or (found.deadline is None) != (self.deadline is None):
            return False
        if self.deadline is None:
            return True
        return -TTL_SLACK_BEFORE_MS <= found.deadline - self.deadline <= TTL_SLACK_AFTER_MS


def is_found(state, found, read_ms):
    return found is None if state is None else state.is_found(found, read_ms)


class Op:
    """One atomic operation: a command or a MULTI block."""

    __slots__ = ("request", "expected", "changes", "connection", "sent", "sent_wall", "acked", "acked_wall", "refused", "name")

    def __init__(self, name, connection, request, expected, changes):
        self.name = name
        self.connection = connection
        self.request = request
        self.expected = expected
        self.changes = changes  # {key: state afterwards}; a key is a pair, database and name
        self.sent = self.sent_wall = self.acked = self.acked_wall = None
        self.refused = False

    def __repr__(self):
        acked = "not acknowledged" if self.acked is None else f"acknowledged at {self.acked:.4f}"
        return f"{self.name} of connection {self.connection} on {sorted(self.changes)[:4]}, sent at {self.sent:.4f}, {acked}"


class Verdict:
    def __init__(self):
        self.acknowledged = 0
        self.lost = []  # operations
        self.damage = []  # sentences
        self.half_done = 0
        self.tainted = 0  # keys that nothing can be said of
        self.unsure = 0  # operations without an answer
        self.skipped = 0  # transactions that later writes on one of their shards survived

    def worst_age(self, power_lost):
        """Seconds from the oldest lost acknowledgement to the cut."""
        return max((power_lost - op.acked for op in self.lost), default=0.0)


class History:
    """Of the keys that have one writer each, since the last reading."""

    def __init__(self, baseline):
        self.baseline = baseline  # {key: State}
        self.ops = []
        self.of_key = {}  # {key: [(op, state)]}

    def add(self, op):
        self.ops.append(op)
        for key, state in op.changes.items():
            self.of_key.setdefault(key, []).append((op, state))

    def verify(self, found, read_ms, shard_of):
        verdict = Verdict()
        verdict.acknowledged = sum(op.acked is not None for op in self.ops)
        verdict.unsure = len(self.ops) - verdict.acknowledged
        tainted = self.tainted_keys()
        lengths = {}
        for key in set(self.baseline) | set(self.of_key) | set(found):
            possible = self.possible_lengths(key, found.get(key), read_ms)
            if possible:
                lengths[key] = possible
            elif key in tainted:
                verdict.tainted += 1
            else:
                verdict.damage.append(f"{key} is {describe(found.get(key))}, which it never was: {self.recent(key)}")
        self.tie(lengths, verdict)
        if not verdict.damage:
            kept_surely, kept_maybe = self.kept(lengths, min), self.kept(lengths, max)
            verdict.lost = [op for op in self.ops if op.acked is not None and id(op) not in kept_maybe]
            self.check_prefixes(kept_surely, kept_maybe, shard_of, verdict)
        return verdict

    def tainted_keys(self):
        """Once an operation was refused, what its connection sent behind it may have had other effects than foreseen."""
        tainted, connections = set(), set()
        for op in self.ops:
            if op.refused:
                connections.add(op.connection)
            if op.connection in connections:
                tainted.update(op.changes)
        return tainted

    def possible_lengths(self, key, found, read_ms):
        """Of the prefix of its operations, by what was found."""
        states = [self.baseline.get(key)] + [state for _, state in self.of_key.get(key, [])]
        return [length for length, state in enumerate(states) if is_found(state, found, read_ms)]

    def tie(self, lengths, verdict):
        """Takes away lengths that would keep an operation on one of its keys only, until none is left to take away."""
        several = [op for op in self.ops if len(op.changes) > 1]
        index = {}
        for key, changes in self.of_key.items():
            for at, (op, _) in enumerate(changes):
                index[id(op), key] = at
        changed = True
        while changed:
            changed = False
            for op in several:
                keys = [key for key in op.changes if lengths.get(key)]
                kept = {key: min(lengths[key]) > index[id(op), key] for key in keys}
                gone = {key: max(lengths[key]) <= index[id(op), key] for key in keys}
                if not any(kept.values()) and not any(gone.values()):
                    continue
                if any(kept.values()) and any(gone.values()):
                    there = [key for key in keys if kept[key]]
                    missing = [key for key in keys if gone[key]]
                    verdict.half_done += 1
                    verdict.damage.append(f"half of {op} is there: {there[:4]} but not {missing[:4]}")
                    return
                keep = any(kept.values())
                for key in keys:
                    at = index[id(op), key]
                    left = [length for length in lengths[key] if (length > at) == keep]
                    changed |= len(left) < len(lengths[key])
                    lengths[key] = left
                    if not left:
                        verdict.half_done += 1
                        verdict.damage.append(f"half of {op} is there: {key} does not go with its other keys")
                        return

    def kept(self, lengths, choose):
        """The operations of the smallest or largest explanation: least and greatest lengths satisfy all ties."""
        kept = set()
        for key, changes in self.of_key.items():
            if key not in lengths:
                continue
            length = choose(lengths[key])
            kept.update(id(op) for op, _ in changes[:length])
        known = {id(op) for op in self.ops if any(key in lengths for key in op.changes)}
        unknown = {id(op) for op in self.ops} - known
        return kept | (unknown if choose is max else set())

    def check_prefixes(self, kept_surely, kept_maybe, shard_of, verdict):
        """Per shard, nothing that was kept was sent after something lost was acknowledged, or behind it on its connection."""
        first_loss, lost_of = {}, {}
        # A pipeline with a command over several shards in it is one transaction, with all its commands.
        over_shards = {
            (op.connection, op.sent) for op in self.ops if op.sent and len({shard_of(key[1]) for key in op.changes}) > 1
        }
        for at, op in enumerate(self.ops):
            if id(op) in kept_maybe:
                continue
            shards = {shard_of(key[1]) for key in op.changes}
            if (op.connection, op.sent) in over_shards:
                continue  # it may be skipped, as its part on another shard was lost
            shard = shards.pop()
            if op.acked is not None and (shard not in first_loss or op.acked < first_loss[shard].acked):
                first_loss[shard] = op
            lost_of.setdefault((shard, op.connection), (at, op))
        transactions = [
            op for op in self.ops if id(op) not in kept_maybe and op.acked and len({shard_of(k[1]) for k in op.changes}) > 1
        ]
        seen = set()
        for at, op in enumerate(self.ops):
            shards = {shard_of(key[1]) for key in op.changes}
            if id(op) not in kept_surely:
                continue
            for shard in shards:
                loss = first_loss.get(shard)
                if loss and loss.acked < op.sent:
                    verdict.damage.append(f"shard {shard} is no prefix: it has {op}, but lacks {loss}")
                lost_at, earlier = lost_of.get((shard, op.connection), (at, None))
                if lost_at < at:
                    verdict.damage.append(f"shard {shard} is no prefix: it has {op}, but lacks the earlier {earlier}")
            if transactions and len(shards) == 1:
                seen.update(id(t) for t in transactions if t.acked < op.sent and shards & {shard_of(k[1]) for k in t.changes})
        verdict.skipped = len(seen)

    def withheld_since(self, shard, shard_of, end):
        """When the shard's last acknowledgement before `end` came, if it left requests unanswered since; else None."""
        last, asked = float("-inf"), float("-inf")
        for op in self.ops:
            if not any(shard_of(key[1]) == shard for key in op.changes):
                continue
            if op.acked is not None and op.acked <= end:
                last = max(last, op.acked)
            elif op.sent is not None and op.sent < end - ANSWER_SECONDS:
                asked = max(asked, op.sent)
        return last if asked > float("-inf") and end - last > ANSWER_SECONDS else None

    def recent(self, key):
        changes = self.of_key.get(key, [])
        start = f"at first {describe(self.baseline.get(key))}; "
        return start + "; ".join(f"{describe(state)} by {op}" for op, state in changes[-3:])


def describe(state):
    if state is None:
        return "absent"
    value, length = state.value, len(state.value)
    shown = value if length <= 40 else value[:24] + b"..." + value[-12:]
    return f"{shown!r} ({length} bytes{'' if state.deadline is None else f', until {state.deadline:.0f}'})"


class Twins:
    """Keys on different shards that every writer sets together to one value, several writers at a time."""

    def __init__(self, keys, baseline):
        self.keys = keys
        self.baseline = baseline  # the value, or None
        self.ops = []  # (op, value)

    def verify(self, values, verdict):
        """`values` are what was found, one per key. What was found for all of them."""
        verdict.acknowledged += sum(op.acked is not None and value is not None for op, value in self.ops)
        if len(set(values)) > 1:
            verdict.half_done += 1
            shown = [value and value[:24] for value in values]
            verdict.damage.append(f"half of a transaction of several writers is there: {self.keys} are {shown}")
            return values[0]
        value = values[0]
        setters = [op for op, set_to in self.ops if set_to == value]
        if not setters and value != self.baseline:
            verdict.damage.append(f"{self.keys} are {value!r}, which they never were")
            return value
        # The latest that may have left this value: lost is what was sent when that had been acknowledged already.
        ends = [float("inf") if op.acked is None else op.acked for op in setters]
        if value == self.baseline:
            ends.append(float("-inf"))
        end = max(ends)
        verdict.lost += [op for op, _ in self.ops if op.acked is not None and op.sent > end]
        return value


def crc16(data):
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


class Slots:
    """Which shard a key is on: Redis Cluster's slots, in even ranges."""

    def __init__(self, shards):
        self.shards = shards
        self.known = {}

    def __call__(self, key):
        shard = self.known.get(key)
        if shard is None:
            share, longer = divmod(16384, self.shards)
            slot = crc16(key) % 16384
            in_longer = longer * (share + 1)
            shard = slot // (share + 1) if slot < in_longer else longer + (slot - in_longer) // share
            self.known[key] = shard
        return shard
