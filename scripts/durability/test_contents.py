"""A digest that was brought up to date change by change is that of the content.

    cd scripts && python3 -B -m unittest durability.test_contents
"""

import random
import unittest

from durability.contents import List, Pairs, Stream, read


class Digests(unittest.TestCase):
    def test_lists(self):
        for seed in range(100):
            draw, changed = random.Random(seed), List()
            for number in range(200):
                element = b"%d" % draw.randrange(9)
                act = draw.choice([changed.push_left, changed.push_right, changed.push_right, changed.pop_left, changed.pop_right])
                if act in (changed.pop_left, changed.pop_right):
                    if len(changed):
                        act()
                else:
                    act(element)
                self.assertEqual(changed.value(), read(b"list", list(changed.items)).value(), f"seed {seed}, step {number}")

    def test_pairs(self):
        for seed in range(100):
            draw, changed = random.Random(seed), Pairs(b"hash")
            for number in range(200):
                key, value = b"%d" % draw.randrange(20), b"%d" % draw.randrange(5)
                if draw.random() < 0.4:
                    changed.remove(key)
                else:
                    changed.put(key, value)
                pairs = list(changed.items.items())
                draw.shuffle(pairs)
                again = read(b"hash", [word for pair in pairs for word in pair])
                self.assertEqual(changed.value(), again.value(), f"seed {seed}, step {number}")

    def test_streams(self):
        made = Stream()
        made.add((1, 0), b"a")
        made.add((2, 1), b"b")
        made.add((10, 0), b"c")
        made.delivered = (0, 0)
        self.assertEqual(made.deliver(b"bob", 2), [(b"1-0", b"a"), (b"2-1", b"b")])
        made.pending.remove(b"1-0")
        self.assertEqual(made.trim(2), 1)
        group = [b"name", b"g", b"last-delivered-id", b"2-1", b"pending", [[b"2-1", b"bob", 123, 1]], b"consumers", []]
        entries = [[b"2-1", [b"f", b"b"]], [b"10-0", [b"f", b"c"]]]
        reply = [b"last-generated-id", b"10-0", b"entries", entries, b"groups", [group]]
        self.assertEqual(made.value(), read(b"stream", reply).value())
        group[5][0][1] = b"eve"
        self.assertNotEqual(made.value(), read(b"stream", reply).value())

    def test_what_differs_has_other_digests(self):
        self.assertNotEqual(List([b"a", b"b"]).value(), List([b"b", b"a"]).value())
        self.assertNotEqual(List([b"a", b"a"]).value(), List([b"a"]).value())
        self.assertNotEqual(Pairs(b"hash", [(b"a", b"1")]).value(), Pairs(b"hash", [(b"a", b"2")]).value())
        self.assertNotEqual(Pairs(b"set", [(b"a", b"")]).value(), Pairs(b"hash", [(b"a", b"")]).value())


if __name__ == "__main__":
    unittest.main()
