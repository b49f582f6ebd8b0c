"""A real ext4 on a disk that can lose power: the nbdkit plugin power_cut.c, nbdfuse, a loop device, a mount.

Between the file system and the plugin's platter is the whole path of a real machine: page cache, journal, flushes. After a
cut all of it is taken down and set up again on what survived, so that nothing that only the kernel remembered is read back.
"""

import ctypes
import os
import shutil
import subprocess
import time

SIZE = "384M"
FLUSH_US_MAX = 3_000
STEP_SECONDS_MAX = 60
NEEDED = {
    "nbdkit": "nbdkit", "nbdfuse": "libnbd-bin", "fusermount3": "fuse3", "cc": "gcc", "mkfs.ext4": "e2fsprogs",
    "losetup": "mount", "mount": "mount", "umount": "mount",
}  # fmt: skip
LIBC = ctypes.CDLL(None, use_errno=True)
SYNC_FILE_RANGE_WRITE = 2
HERE = os.path.dirname(os.path.abspath(__file__))


def obstacle():
    """Why there can be no such disk here, if so."""
    if os.geteuid() != 0:
        return "mounting needs root"
    missing = [f"{tool} (Debian package {package})" for tool, package in NEEDED.items() if not shutil.which(tool)]
    if missing:
        return "missing: " + ", ".join(missing)
    if not os.path.exists("/usr/include/nbdkit-plugin.h"):
        return "missing: nbdkit-plugin.h (Debian package nbdkit-plugin-dev)"
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(device):
            return f"missing: {device}"
    return None


def build(folder):
    """Compiles the plugin; its path."""
    plugin = os.path.join(folder, "power_cut.so")
    source = os.path.join(HERE, "power_cut.c")
    run("cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", plugin, source, "-lpthread")
    return plugin


class Disk:
    def __init__(self, plugin, folder, seed):
        self.folder = folder
        self.commands_path, self.answers_path, self.socket, self.fuse, self.mountpoint = (
            os.path.join(folder, name) for name in ("commands", "answers", "socket", "disk", "mount")
        )
        for pipe in (self.commands_path, self.answers_path):
            os.mkfifo(pipe)
        os.mkdir(self.mountpoint)
        open(self.fuse, "w").close()
        # Both ends each, so that nobody waits for the other to open.
        self.commands = os.fdopen(os.open(self.commands_path, os.O_RDWR | os.O_CLOEXEC), "wb", buffering=0)
        self.answers = os.fdopen(os.open(self.answers_path, os.O_RDWR | os.O_CLOEXEC), "rb", buffering=0)
        self.nbdfuse = self.loop = None
        self.mounted = False
        words = ["nbdkit", "-f", "--exit-with-parent", "-U", self.socket, plugin, f"size={SIZE}", f"seed={seed}"]
        words += [f"flush_us={FLUSH_US_MAX}", f"commands={self.commands_path}", f"answers={self.answers_path}"]
        self.log = open(os.path.join(folder, "disk.log"), "ab")
        self.nbdkit = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        until(lambda: os.path.exists(self.socket), "nbdkit listens")

    def format_and_mount(self):
        self.attach()
        run("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", self.loop)
        self.mount()

    def mount(self):
        # Under a cut ext4 must neither panic nor remount: it gets errors, and the server with it. The journal is committed
        # often, so that it sometimes is between the server's syncs.
        run("mount", "-t", "ext4", "-o", "errors=continue,commit=1", self.loop, self.mountpoint)
        self.mounted = True

    def attach(self):
        words = ["nbdfuse", self.fuse, f"nbd+unix:///?socket={self.socket}"]
        self.nbdfuse = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        until(lambda: os.path.getsize(self.fuse) > 0, "nbdfuse shows the disk")
        self.loop = run("losetup", "--find", "--show", self.fuse).strip()

    def detach(self):
        """Unmounts and takes down what the kernel remembers; succeeds on a dead disk, too."""
        if self.mounted:
            patiently("umount", self.mountpoint)
            self.mounted = False
        if self.loop is not None:
            patiently("losetup", "--detach", self.loop)
            loop, self.loop = self.loop, None
            what = ("losetup", "--noheadings", "--output", "BACK-FILE", loop)
            until(lambda: not run(*what, check=False).strip(), "the loop device is free")
        if self.nbdfuse is not None:
            patiently("fusermount3", "-u", self.fuse)
            self.nbdfuse.wait(timeout=STEP_SECONDS_MAX)
            self.nbdfuse = None

    def cut(self, seed, percent):
        """The power goes: when (monotonic seconds), how many sectors were cached, and how many of them survived."""
        answer = self.command(f"cut {seed} {percent}")
        when, cached, survived = answer.split()[1:]
        return int(when) / 1e9, int(cached), int(survived)

    def power_on(self):
        """After `detach`: with what survived."""
        self.command("serve")
        self.attach()
        self.mount()

    @staticmethod
    def write_back(path, offset, length):
        """The kernel writes these pages out, as it may at any time, without a flush behind them."""
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return  # a snapshot has taken its place meanwhile
        try:
            LIBC.sync_file_range(file, ctypes.c_int64(offset), ctypes.c_int64(length), SYNC_FILE_RANGE_WRITE)
        finally:
            os.close(file)

    def command(self, line):
        self.commands.write(line.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            answer += self.answers.read(256)
        return answer.decode()

    def remove(self):
        """Takes everything down, wherever it got to."""
        for step in (self.detach, self.end_nbdkit):
            try:
                step()
            except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
                print(f"tidying up: {error}")
        for file in (self.commands, self.answers, self.log):
            file.close()
        if not self.mounted:
            shutil.rmtree(self.folder, ignore_errors=True)

    def end_nbdkit(self):
        self.nbdkit.kill()
        self.nbdkit.wait(timeout=STEP_SECONDS_MAX)


def run(*words, check=True):
    done = subprocess.run(words, capture_output=True, text=True, timeout=STEP_SECONDS_MAX, stdin=subprocess.DEVNULL)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stdout}{done.stderr}".strip())
    return done.stdout


def patiently(*words):
    """What the kernel still uses for a moment is tried again."""
    deadline = time.monotonic() + STEP_SECONDS_MAX / 4
    while True:
        try:
            return run(*words)
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def until(true, what):
    deadline = time.monotonic() + STEP_SECONDS_MAX
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not so within {STEP_SECONDS_MAX} s: {what}")
        time.sleep(0.002)
