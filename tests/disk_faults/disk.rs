//! Disks that fail on demand: ext4 on a loop device over an image, for the harder faults with an NBD server between, whose
//! reads, writes and flushes can be made to fail or to take long while the disk is in use.
//!
//! ```text
//!  plain:    image ──────────────────────────────────► loop ──► ext4
//!  faulty:   image ──► nbdkit ──► nbdfuse, one file ──► loop ──► ext4
//! ```
//! Rule: whatever becomes of a test, nothing stays mounted, frozen or running.

use crate::support::{DataDir, installed, wait_until};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A mounted file system of its own, unmounted on drop. To be declared before the servers that use it.
pub struct Disk {
    dir: DataDir,
    mounted: bool,
    /// The file of `nbdfuse`, and what is behind it.
    network: Option<Network>,
}

/// What a faulty disk can be told to do. Its requests look for a file of that name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Reads that reach the disk fail with EIO.
    Read,
    /// Writes that reach the disk fail with EIO.
    Write,
    /// Writes succeed, and the flush of the disk's cache fails with EIO.
    Flush,
    /// Each write takes a fifth of a second.
    Slow,
}

impl Fault {
    const ALL: [Fault; 4] = [Fault::Read, Fault::Write, Fault::Flush, Fault::Slow];

    fn trigger(self) -> &'static str {
        match self {
            Fault::Read => "fail-reads",
            Fault::Write => "fail-writes",
            Fault::Flush => "fail-flushes",
            Fault::Slow => "slow-writes",
        }
    }
}

/// A disk at a time: loop devices are few, and so are the machine's cores.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this machine can make such disks. Where it can't, a line for the reader; on CI that is a failure, if only root is there.
pub fn possible(faulty: bool) -> bool {
    // The owner of a process' own directory in /proc is its effective user.
    let user = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("a process has one"));
    if user != 0 {
        println!("SKIPPED: mounting a disk needs root");
        return false;
    }
    let mut programs = vec!["mkfs.ext4", "e2fsck", "mount", "umount", "fsfreeze", "fallocate"];
    if faulty {
        programs.extend(["nbdkit", "nbdfuse", "fusermount3", "dd"]);
    }
    if programs.iter().any(|program| installed(program).is_none()) {
        return false;
    }
    let devices = if faulty { &["/dev/loop-control", "/dev/fuse"][..] } else { &["/dev/loop-control"] };
    if let Some(missing) = devices.iter().find(|device| !Path::new(device).exists()) {
        println!("SKIPPED: there is no {missing}");
        return false;
    }
    let can_mount = can_mount();
    if !can_mount {
        println!("SKIPPED: nothing can be mounted here");
    }
    can_mount
}

/// Root in a container often may not. A missing program can be installed, and so is a failure under CI; this can't be helped.
fn can_mount() -> bool {
    let dir = DataDir::new();
    let quietly = |program: &str, args: &[&str]| {
        let tried = Command::new(program).args(args).arg(dir.path()).output();
        tried.is_ok_and(|output| output.status.success())
    };
    quietly("mount", &["-t", "tmpfs", "shardis-test"]) && quietly("umount", &[])
}

impl Disk {
    pub fn plain(mib: u64) -> Disk {
        let mut disk = Disk::blank(mib);
        disk.mount();
        disk
    }

    /// One that can be told to fail.
    pub fn faulty(mib: u64) -> Disk {
        let mut disk = Disk::blank(mib);
        disk.network = Some(Network::start(disk.dir.path()));
        disk.mount();
        disk
    }

    fn blank(mib: u64) -> Disk {
        let dir = DataDir::new();
        let image = dir.path().join("image");
        File::create(&image).and_then(|file| file.set_len(mib << 20)).expect("an image can be made");
        std::fs::create_dir(dir.path().join("mounted")).expect("the directory is ours");
        std::fs::create_dir(dir.path().join("network")).expect("the directory is ours");
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image));
        Disk { dir, mounted: false, network: None }
    }

    fn mount(&mut self) {
        let image = match &self.network {
            Some(_) => self.dir.path().join("network/disk"),
            None => self.dir.path().join("image"),
        };
        // The kernel frees the loop device with the mount.
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(&image).arg(self.path()));
        self.mounted = true;
    }

    fn unmount(&mut self) {
        if !std::mem::take(&mut self.mounted) {
            return;
        }
        // A server that was just killed may still hold files for a moment: io_uring gives them back late.
        for _ in 0..100 {
            if try_run(Command::new("umount").arg(self.path())) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let detached = try_run(Command::new("umount").arg("-l").arg(self.path()));
        assert!(detached || std::thread::panicking(), "{} stays mounted", self.path().display());
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    pub fn break_by(&self, fault: Fault) {
        assert!(self.network.is_some(), "only a faulty disk can be told to fail");
        File::create(self.dir.path().join(fault.trigger())).expect("the directory is ours");
    }

    pub fn heal(&self) {
        for fault in Fault::ALL {
            let _ = std::fs::remove_file(self.dir.path().join(fault.trigger()));
        }
    }

    /// Another disk with the bytes of this one, as after a repair; nothing of it is in the page cache. No server may use it.
    pub fn replace(&mut self) {
        self.unmount();
        self.heal();
        self.network = None;
        let image = self.dir.path().join("image");
        // It finds the errors that the kernel has noted, and exits with 1 for having mended them.
        let _ = try_run(Command::new("e2fsck").args(["-f", "-y"]).arg(&image));
        self.mount();
    }

    /// Forgets what the page cache has of it. No server may use it.
    pub fn remount(&mut self) {
        self.unmount();
        self.mount();
    }

    /// Takes all its space. Gone when the answer is dropped.
    pub fn fill(&self) -> Ballast {
        let folder = self.path().join("ballast");
        std::fs::create_dir_all(&folder).expect("a directory needs no new block but its own");
        // What was freed a moment ago is space only once the file system's journal has it.
        run(Command::new("sync").arg("-f").arg(self.path()));
        for (number, shift) in (12..=30).rev().enumerate() {
            for piece in 0.. {
                let file = folder.join(format!("{number}-{piece}"));
                let bytes = (1u64 << shift).to_string();
                if !try_run(Command::new("fallocate").args(["-l", &bytes]).arg(&file)) {
                    let _ = std::fs::remove_file(file);
                    break;
                }
            }
        }
        Ballast(folder)
    }

    /// Holds every write until the answer is dropped. To be declared after the servers that use the disk: a process with writes
    /// under way on a frozen disk can't even be killed.
    pub fn freeze(&self) -> Frozen {
        // In another process, which also thaws it when this one has died, or takes too long.
        let mut thaw = Command::new("sh");
        thaw.args(["-c", "timeout 60 cat; exec fsfreeze -u \"$1\"", "thaw"]).arg(self.path());
        thaw.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let frozen = Frozen { thaw: thaw.spawn().expect("there is a shell") };
        run(Command::new("fsfreeze").arg("-f").arg(self.path()));
        frozen
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.heal();
        self.unmount();
        self.network = None;
    }
}

/// Files that take all space of a disk.
pub struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        let gone = std::fs::remove_dir_all(&self.0);
        assert!(gone.is_ok() || std::thread::panicking(), "{}: {gone:?}", self.0.display());
    }
}

/// A frozen file system.
pub struct Frozen {
    /// Waits for the end of its input, then thaws it.
    thaw: Child,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.thaw.stdin.take());
        let thawed = self.thaw.wait().is_ok_and(|status| status.success());
        assert!(thawed || std::thread::panicking(), "a disk was thawed before its time");
    }
}

/// The image as a file whose reads and writes go through an NBD server.
struct Network {
    folder: PathBuf,
    server: Child,
    file: Option<Child>,
}

/// What the NBD server does for each request, as shell scripts: the only plugin whose flushes can be made to fail.
const SCRIPTS: [&str; 6] = [
    "get_size=stat -c %s image",
    "can_write=exit 0",
    "can_flush=exit 0",
    "pread=dd if=image skip=$4 count=$3 iflag=skip_bytes,count_bytes status=none",
    "pwrite=if [ -e slow-writes ]; then sleep 0.2; fi; dd of=image seek=$4 conv=notrunc oflag=seek_bytes status=none",
    "flush=if [ -e fail-flushes ]; then echo EIO >&2; exit 1; fi",
];

impl Network {
    fn start(dir: &Path) -> Network {
        let triggers = |kind: &str, fault: Fault| {
            let file = dir.join(fault.trigger()).display().to_string();
            [format!("error-{kind}-rate=100%"), format!("error-{kind}-file={file}")]
        };
        let mut server = Command::new("nbdkit");
        server.args(["--foreground", "--unix", "socket", "--filter=error", "eval"]);
        server.args(SCRIPTS.map(|script| match script.split_once('=') {
            Some((name, body)) => format!("{name}=cd '{}' && {{ {body}; }}", dir.display()),
            None => unreachable!("a script has a name"),
        }));
        server.args(triggers("pread", Fault::Read)).args(triggers("pwrite", Fault::Write));
        let server = spawn_in(dir, server);
        let mut file = Command::new("nbdfuse");
        file.args(["network/disk", "--unix", "socket"]);
        // From here on, dropping it ends them.
        let mut network = Network { folder: dir.join("network"), server, file: None };
        let limit = Duration::from_secs(20);
        wait_until("the NBD server listens", limit, || dir.join("socket").exists());
        network.file = Some(spawn_in(dir, file));
        wait_until("the disk's file is there", limit, || network.folder.join("disk").exists());
        network
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let gone = try_run(Command::new("fusermount3").arg("-u").arg(&self.folder));
        if !gone {
            try_run(Command::new("umount").arg("-l").arg(&self.folder));
        }
        self.file.iter_mut().for_each(end);
        end(&mut self.server);
    }
}

fn spawn_in(dir: &Path, mut command: Command) -> Child {
    command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("starting {:?}: {error}", command.get_program()))
}

/// Gives a child the time to end by itself, then kills it.
fn end(child: &mut Child) {
    for _ in 0..20 {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("it is installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn try_run(command: &mut Command) -> bool {
    let output = command.stdin(Stdio::null()).output();
    output.is_ok_and(|output| output.status.success())
}
