"""The server under test as a process, and what both harnesses do with it."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time

from durability.load import Client

START_SECONDS_MAX = 60


class StartFailed(Exception):
    pass


class Server:
    """One server on a data directory, started and killed many times."""

    def __init__(self, binary, directory, log_path, arguments):
        self.binary = binary
        self.directory = directory
        self.log_path = log_path
        self.arguments = arguments
        self.child = None
        self.port = free_port()

    def launch(self, *more):
        command = [self.binary, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", self.directory]
        with open(self.log_path, "ab") as log:
            command += [*self.arguments, *more]
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.launched = time.monotonic()

    def start(self, *more):
        """Starts it; seconds until it answers."""
        self.launch(*more)
        return self.await_answer()

    def await_answer(self):
        while True:
            try:
                client = Client(self.port, START_SECONDS_MAX)
                client.call(("PING",))
                client.close()
                return time.monotonic() - self.launched
            except OSError:
                if self.child.poll() is not None:
                    raise StartFailed(f"the server ends with {self.child.returncode} instead of starting: {self.last_words()}")
                if time.monotonic() - self.launched > START_SECONDS_MAX:
                    raise StartFailed(f"the server does not answer within {START_SECONDS_MAX} s: {self.last_words()}")
                time.sleep(0.002)

    def last_words(self):
        with open(self.log_path, "rb") as log:
            log.seek(max(0, os.path.getsize(self.log_path) - 1_500))
            return log.read().decode(errors="replace").strip()

    def kill(self):
        """At once and for good. May come from another thread than `reap`."""
        if self.child is not None:
            self.killed = time.monotonic()
            self.child.send_signal(signal.SIGKILL)

    def reap(self):
        if self.child is not None:
            self.child.wait(timeout=60)
            self.child = None

    def end(self):
        if self.child is not None:
            self.kill()
            self.reap()


class Later(threading.Thread):
    """Does something after so many seconds, whatever the load is at; what that returned is in `result` after `join`."""

    def __init__(self, seconds, action):
        super().__init__(daemon=True)
        self.seconds = seconds
        self.action = action
        self.result = self.error = None
        self.start()

    def run(self):
        time.sleep(self.seconds)
        try:
            self.result = self.action()
        except Exception as error:  # handed to who waits
            self.error = error

    def outcome(self):
        self.join()
        if self.error is not None:
            raise self.error
        return self.result


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def keep_state(directory, kept):
    """The data directory as it is now. Copied, not linked: a start may write over segments that it no longer needs."""
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(directory, kept)
