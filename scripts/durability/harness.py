"""What the two harnesses share: options, bounds, tallies, the end."""

import argparse
import asyncio
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

SKIPPED = 77
BROKEN = 75  # the harness, not what it tests
POLICIES = ["always", "everysec", "no"]
SHOWN_MAX = 6  # of the findings of one cycle
SLOW_RECOVERY_SECONDS = 5
SEGMENT_BYTES = 1 << 20  # the least there is, so that the log turns to a new segment all the time


class Interrupted(KeyboardInterrupt):
    """Of that kind, as an event loop lets nothing else out of a callback."""


def parser(doc, cycles):
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--policy", choices=[*POLICIES, "all"], default="all", help="appendfsync")
    made.add_argument("--cycles", type=int, default=cycles, metavar="N", help="per policy")
    made.add_argument("--seed", type=int, default=1, metavar="S", help="of the load and the moments")
    made.add_argument("--binary", default="target/release/shardis", metavar="PATH", help="the server")
    made.add_argument("--shards", default="2", metavar="N[,N]", help="taken in turns")
    made.add_argument("--connections", type=int, default=24, metavar="N")
    made.add_argument("--seconds", type=int, default=3_600, metavar="N", help="no cycle begins later than this")
    what = "for a server built with the feature planted-bugs: succeeds when the bug is found, and stops there"
    made.add_argument("--plant", metavar="BUG", help=what)
    return made


def skip(reason):
    """The machine lacks what is needed: no failure, unless everything was to be there."""
    print(f"SKIPPED: {reason}")
    sys.exit(1 if os.environ.get("CI") == "true" else SKIPPED)


class Tally:
    """The figures of one policy."""

    def __init__(self):
        self.cycles = self.acknowledged = self.unsure = self.lost = self.half_done = self.damaged = 0
        self.tainted = self.skipped = self.snapshots = self.flushes = self.failed = 0
        self.recoveries = []
        self.worst_age = 0.0

    def add(self, verdict, load):
        self.acknowledged += verdict.acknowledged
        self.unsure += verdict.unsure
        self.lost += len(verdict.lost)
        self.half_done += verdict.half_done
        self.damaged += len(verdict.damage) - verdict.half_done
        self.tainted += verdict.tainted
        self.skipped += verdict.skipped
        self.snapshots += load.snapshots
        self.flushes += load.flushes

    def line(self):
        recoveries = self.recoveries or [0.0]
        median, most = statistics.median(recoveries) * 1_000, max(recoveries) * 1_000
        return (
            f"{self.cycles} cycles, {self.acknowledged} acknowledged, {self.lost} lost, {self.half_done} half-done, "
            f"{self.damaged} otherwise damaged, {self.unsure} unanswered, {self.tainted} keys unverifiable, "
            f"{self.snapshots} snapshots, {self.flushes} FLUSHALL; recovery median {median:.0f} ms, max {most:.0f} ms"
        )


class Harness:
    """Runs cycles, and tidies up however that ends."""

    server = None

    def __init__(self, arguments, name):
        self.arguments = arguments
        self.name = name
        if arguments.plant:
            os.environ["SHARDIS_PLANTED"] = arguments.plant
        self.binary = os.path.abspath(arguments.binary)
        if not os.access(self.binary, os.X_OK):
            skip(f"{arguments.binary} is not there: build it, or name another with --binary")
        self.shards = [int(number) for number in arguments.shards.split(",")]
        self.scratch = tempfile.mkdtemp(prefix=f"{name}-")
        self.begun = time.monotonic()

    def main(self, run_policy):
        """`run_policy(policy)` returns its Tally. The exit code."""

        def give_up(_signal, _frame):
            raise Interrupted

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, give_up)
        policies = POLICIES if self.arguments.policy == "all" else [self.arguments.policy]
        failed = found = broken = False
        try:
            for policy in policies:
                tally = run_policy(policy)
                print(f"{self.name} {policy}: {tally.line()}", flush=True)
                if tally.cycles and not tally.acknowledged and not tally.failed:
                    print(f"{self.name} {policy}: nothing was acknowledged, so nothing was tested")
                    failed = True
                found |= tally.failed > 0
        except Interrupted:
            print("interrupted")
            failed = True
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            print(f"{self.name} itself fails: {error}", flush=True)
            broken = True
        finally:
            # What tidies up must not be interrupted half-way.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            self.tidy()
            shutil.rmtree(self.scratch, ignore_errors=True)
        if broken and not (failed or (found and not self.arguments.plant)):
            return BROKEN
        if self.arguments.plant and not failed:
            print(f"planted: {self.arguments.plant}, {'found' if found else 'NOT FOUND'}")
            return 0 if found else 1
        return 1 if failed or found else 0

    def tidy(self):
        """Ends what was started."""

    def goes_on(self, cycle, tally):
        """Whether there is a next cycle; says why not if it were to be expected, and how far a long run has come."""
        if cycle and cycle % 100 == 0 and cycle < self.arguments.cycles:
            print(f"{self.name}, so far: {tally.line()}", flush=True)
        if cycle == self.arguments.cycles or (self.arguments.plant and tally.failed):
            return False
        if time.monotonic() - self.begun < self.arguments.seconds:
            return True
        print(f"stopped after {cycle} cycles: --seconds {self.arguments.seconds} are over")
        return False

    def randomness(self, *what):
        return random.Random(":".join(str(part) for part in (self.arguments.seed, self.name, *what)))

    def report(self, policy, cycle, findings, state, log):
        """Prints a cycle's findings and keeps the data directory as the crash left it, unless they were to be expected."""
        kept = None
        if not self.arguments.plant:
            kept = tempfile.mkdtemp(prefix=f"{self.name}-failed-")
            if state and os.path.isdir(state):
                shutil.copytree(state, os.path.join(kept, "data"))
            if log and os.path.exists(log):
                shutil.copy(log, kept)
        print(f"FAILED {self.name} --policy {policy} --seed {self.arguments.seed}, cycle {cycle}; kept: {kept}")
        for finding in findings[:SHOWN_MAX]:
            print(f"  {finding}")
        if len(findings) > SHOWN_MAX:
            print(f"  and {len(findings) - SHOWN_MAX} more", flush=True)

    def note_recovery(self, tally, cycle, seconds):
        tally.recoveries.append(seconds)
        if seconds > SLOW_RECOVERY_SECONDS:
            print(f"slow: the recovery of cycle {cycle} took {seconds:.1f} s; {self.server.last_words()}", flush=True)

    def server_arguments(self, policy):
        words = ["--appendfsync", policy, "--wal-segment-size", str(SEGMENT_BYTES)]
        return [*words, "--databases", str(self.arguments.connections + 1)]


def run_load(load, snapshots, flush_all, seconds_max):
    """Until the server is gone, or so long."""

    async def bounded():
        task = asyncio.create_task(load.run(snapshots, flush_all))
        done, _ = await asyncio.wait([task], timeout=seconds_max)
        if not done:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise RuntimeError("the load does not end though the server was killed")
        task.result()

    asyncio.run(bounded())

