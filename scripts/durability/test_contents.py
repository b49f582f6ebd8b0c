"""A digest that was brought up to date change by change is that of the content.

    cd scripts && python3 -B -m unittest durability.test_contents
"""

import random
import unittest

from durability.contents import List, Pairs, read


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

    def test_what_differs_has_other_digests(self):
        self.assertNotEqual(List([b"a", b"b"]).value(), List([b"b", b"a"]).value())
        self.assertNotEqual(List([b"a", b"a"]).value(), List([b"a"]).value())
        self.assertNotEqual(Pairs(b"hash", [(b"a", b"1")]).value(), Pairs(b"hash", [(b"a", b"2")]).value())
        self.assertNotEqual(Pairs(b"set", [(b"a", b"")]).value(), Pairs(b"hash", [(b"a", b"")]).value())


if __name__ == "__main__":
    unittest.main()
