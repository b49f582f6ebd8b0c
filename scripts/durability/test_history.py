"""The rule itself can fail: what a crash must not leave is found, what it may leave is not.

    cd scripts && python3 -B -m unittest durability.test_history
"""

import random
import unittest

from durability.history import History, Op, Slots, State, Twins, Verdict, is_found

SLOTS = Slots(2)
NOW = (0, 0)
ON_0, ON_1 = ([name for name in (b"k%d" % at for at in range(40)) if SLOTS(name) == shard] for shard in (0, 1))


class Story:
    """A history being told: operations one after the other, one second each."""

    def __init__(self):
        self.history = History({})
        self.now = 0.0
        self.state = {}

    def op(self, connection, values, acked=True):
        changes = {(1, name): None if value is None else State(value) for name, value in values.items()}
        op = Op("SET", connection, b"", b"", changes)
        op.sent = self.now = self.now + 1
        if acked:
            op.acked = self.now = self.now + 1
        self.history.add(op)
        self.state.update(changes)
        return op

    def verify(self, **found):
        there = {(1, name.encode()): State(value) for name, value in found.items()}
        return self.history.verify(there, NOW, SLOTS)


class Rule(unittest.TestCase):
    def test_everything_there_is_fine(self):
        story = Story()
        story.op(1, {ON_0[0]: b"a", ON_1[0]: b"b"})
        verdict = story.history.verify(story.state, NOW, SLOTS)
        self.assertEqual((verdict.damage, verdict.lost), ([], []))

    def test_an_unanswered_operation_may_be_there_or_not(self):
        for there in (False, True):
            story = Story()
            story.op(1, {ON_0[0]: b"a"})
            story.op(1, {ON_0[0]: b"b"}, acked=False)
            verdict = story.verify(**{ON_0[0].decode(): b"b" if there else b"a"})
            self.assertEqual((verdict.damage, verdict.lost), ([], []))

    def test_a_lost_acknowledgement_is_found(self):
        story = Story()
        story.op(1, {ON_0[0]: b"a"})
        lost = story.op(1, {ON_0[0]: b"b"})
        self.assertEqual(story.verify(**{ON_0[0].decode(): b"a"}).lost, [lost])

    def test_a_value_that_never_was_is_found(self):
        story = Story()
        story.op(1, {ON_0[0]: b"aaaa"})
        self.assertTrue(story.verify(**{ON_0[0].decode(): b"aa\0\0"}).damage)

    def test_half_an_operation_is_found_though_nobody_was_promised_it(self):
        story = Story()
        story.op(1, {ON_0[0]: b"a", ON_1[0]: b"b"}, acked=False)
        self.assertEqual(story.verify(**{ON_0[0].decode(): b"a"}).half_done, 1)

    def test_half_is_found_behind_keys_that_could_be_explained_either_way(self):
        story = Story()
        story.op(1, {ON_0[0]: b"a", ON_1[0]: None}, acked=False)
        story.op(1, {ON_1[0]: None, ON_0[1]: b"c"}, acked=False)
        story.op(1, {ON_1[0]: None, ON_1[1]: b"d"}, acked=False)
        verdict = story.verify(**{ON_1[1].decode(): b"d"})
        self.assertEqual(verdict.half_done, 1)

    def test_a_shard_that_is_no_prefix_is_found(self):
        story = Story()
        story.op(1, {ON_0[0]: b"a"})
        story.op(2, {ON_0[1]: b"b"})
        self.assertTrue(story.verify(**{ON_0[1].decode(): b"b"}).damage)

    def test_a_hole_in_a_pipeline_is_found(self):
        story = Story()
        story.op(1, {ON_0[0]: b"a"}, acked=False)
        story.op(1, {ON_0[1]: b"b"}, acked=False)
        self.assertTrue(story.verify(**{ON_0[1].decode(): b"b"}).damage)

    def test_shards_may_end_at_different_moments(self):
        story = Story()
        lost = story.op(1, {ON_0[0]: b"a"})
        story.op(1, {ON_1[0]: b"b"})
        verdict = story.verify(**{ON_1[0].decode(): b"b"})
        self.assertEqual((verdict.damage, verdict.lost), ([], [lost]))

    def test_any_cut_of_a_random_history_is_accepted_and_any_half_is_not(self):
        for seed in range(200):
            draw, story = random.Random(seed), Story()
            names = ON_0[:3] + ON_1[:3]
            for number in range(30):
                chosen = draw.sample(names, draw.randint(1, 3))
                story.op(1, {name: draw.choice([None, b"%d" % number]) for name in chosen}, acked=False)
            end, state = draw.randrange(30), {}
            for op in story.history.ops[:end]:
                state.update(op.changes)
            self.assertEqual(story.history.verify(dict(state), NOW, SLOTS).damage, [], f"seed {seed}")
            # Nothing behind it: a later removal could explain that a key of it is as before.
            cut, nexts = History({}), story.history.ops[end].changes
            for op in story.history.ops[: end + 1]:
                cut.add(op)
            visible = [key for key, value in nexts.items() if value is not None]
            if len(visible) > 1:
                state[visible[0]] = nexts[visible[0]]
                self.assertTrue(cut.verify(dict(state), NOW, SLOTS).damage, f"seed {seed}")

    def test_a_shard_holds_back_only_what_it_was_asked_for(self):
        story = Story()
        story.op(1, {ON_0[0]: b"a"})
        story.op(1, {ON_0[0]: b"b"}, acked=False)
        self.assertEqual(story.history.withheld_since(0, SLOTS, end=10.0), 2.0)
        self.assertIsNone(story.history.withheld_since(0, SLOTS, end=2.01), "it has had no time to answer")
        self.assertIsNone(story.history.withheld_since(1, SLOTS, end=10.0), "nobody asked it")

    def test_deadlines_count(self):
        state = State(b"a", 1_000_000)
        self.assertTrue(is_found(state, State(b"a", 1_000_500), NOW))
        self.assertFalse(is_found(state, State(b"a"), NOW))
        self.assertFalse(is_found(state, State(b"a", 1_100_000), NOW))
        brief = State(b"a", 5_000, brief=1_000)
        self.assertTrue(is_found(brief, None, (3_000, 6_000)))
        self.assertFalse(is_found(brief, None, (2_000, 3_000)))

    def test_twins_are_the_same_and_not_stale(self):
        def told(values):
            twins, verdict = Twins([b"x", b"y"], None), Verdict()
            for at, value in enumerate((b"first", b"second")):
                op = Op("twins", -1, b"", b"", {})
                op.sent, op.acked = 2 * at, 2 * at + 1
                twins.ops.append((op, value))
            twins.verify(values, verdict)
            return verdict

        self.assertEqual((told([b"second"] * 2).damage, told([b"second"] * 2).lost), ([], []))
        self.assertEqual(len(told([b"first"] * 2).lost), 1)
        self.assertEqual(len(told([None, None]).lost), 2)
        self.assertTrue(told([b"first", b"second"]).damage)
        self.assertTrue(told([b"third"] * 2).damage)


if __name__ == "__main__":
    unittest.main()
