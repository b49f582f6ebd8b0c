//! Servers under test: started on a free port, waited for, and ended by their pid, whatever the test does.

use super::client::Client;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// A data directory on the disk of the build (a RAM disk would hide what syncs cost), removed on drop.
pub struct DataDir(tempfile::TempDir);

impl DataDir {
    pub fn new() -> DataDir {
        let parent = env!("CARGO_TARGET_TMPDIR");
        DataDir(tempfile::Builder::new().prefix("data-").tempdir_in(parent).expect("the target directory is writable"))
    }
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Default for DataDir {
    fn default() -> Self {
        DataDir::new()
    }
}

pub struct Server {
    child: Child,
    pub port: u16,
    log: PathBuf,
    /// Directories that live as long as the server.
    own: Vec<DataDir>,
}

/// How long a start may take, recovery of a test's data included.
const START: Duration = Duration::from_secs(60);

impl Server {
    /// Our binary in an empty directory of its own. Flags in `args` win over the defaults (no persistence).
    pub fn shardis(args: &[&str]) -> Server {
        let dir = DataDir::new();
        let mut server = Server::shardis_in(dir.path(), &[&["--appendonly", "no"], args].concat());
        server.own.push(dir);
        server
    }

    /// Our binary on the data in `dir`.
    pub fn shardis_in(dir: &Path, args: &[&str]) -> Server {
        Server::start(|port| subject(port, dir, args))
    }

    /// The same with variables for its environment.
    pub fn shardis_with(dir: &Path, args: &[&str], environment: &[(&str, &OsStr)]) -> Server {
        Server::start(|port| {
            let mut command = subject(port, dir, args);
            command.envs(environment.iter().copied());
            command
        })
    }

    /// redis-server in an empty directory of its own, without persistence.
    pub fn redis(args: &[&str]) -> Server {
        let dir = DataDir::new();
        let mut server = Server::start(|port| oracle(port, dir.path(), &[&["--appendonly", "no"], args].concat()));
        server.own.push(dir);
        server
    }

    fn start(command: impl Fn(u16) -> std::process::Command) -> Server {
        let logs = DataDir::new();
        for attempt in 0.. {
            let port = free_port();
            let log = logs.path().join(format!("log-{attempt}"));
            let mut server = Server { child: spawn(command(port), &log), port, log, own: Vec::new() };
            match server.wait_until_up() {
                Ok(()) => {
                    server.own.push(logs);
                    return server;
                }
                // Someone else may have taken the port between the look and the start.
                Err(_) if attempt < 2 && server.log().contains("ddress already in use") => continue,
                Err(why) => panic!("the server did not start: {why}\n{}", server.log()),
            }
        }
        unreachable!("the third attempt returns or panics")
    }

    fn wait_until_up(&mut self) -> Result<(), String> {
        let start = Instant::now();
        while start.elapsed() < START {
            if let Some(status) = self.child.try_wait().expect("our own child can be waited for") {
                return Err(format!("it exited with {status}"));
            }
            let answer = Client::try_connect(self.port).and_then(|mut client| client.try_call(&["PING"]));
            // -NOAUTH is an answer too.
            if answer.is_ok_and(|reply| !reply.text().starts_with("LOADING")) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("no answer to PING in {START:?}"))
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
    /// What it printed so far, on both streams.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our own child can be waited for").is_none()
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().expect("our own child can be killed");
        self.child.wait().expect("our own child can be waited for");
    }

    pub fn terminate(&self) {
        // SAFETY: kill(2) takes plain integers; the pid is our own child's, which was not yet reaped.
        let result = unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        assert_eq!(result, 0, "our own child can be signalled");
    }

    /// SIGTERM, and waits for the end: the exit status and the time it took.
    pub fn stop(mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.terminate();
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child can be waited for") {
                return (status, start.elapsed());
            }
            assert!(start.elapsed() < super::HANG, "SIGTERM did not end the server:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The largest file it may write, as a disk that is full: growing a file beyond it fails as ENOSPC does.
    pub fn limit_files(&self, bytes: u64) {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: the limit is a valid rlimit, nothing is written back, and the process is our own child.
        let result = unsafe { libc::prlimit(self.pid() as i32, libc::RLIMIT_FSIZE, &limit, std::ptr::null_mut()) };
        assert_eq!(result, 0, "our own child can be limited");
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the server runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has a VmRSS");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("VmRSS is a number of kB");
        kib << 10
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(4000);
            eprintln!("--- last output of the server\n{}", log.get(from..).unwrap_or(&log));
        }
    }
}

/// The end of a start that must fail: exit code and what it said on stderr.
pub struct BadStart {
    pub code: Option<i32>,
    pub stderr: String,
}

/// Starts our binary, which is to give up by itself.
pub fn bad_start(port: u16, dir: &Path, args: &[&str]) -> BadStart {
    let logs = DataDir::new();
    let log = logs.path().join("log");
    let mut child = spawn(subject(port, dir, args), &log);
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("our own child can be waited for") {
            break Some(status);
        }
        if start.elapsed() > super::HANG {
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let _ = child.kill();
    let _ = child.wait();
    let stderr = String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    BadStart { code: status.and_then(|status| status.code()), stderr }
}

/// Whether redis-server stands in for our binary.
pub fn subject_is_redis() -> bool {
    std::env::var("SHARDIS_TEST_SUBJECT").as_deref() == Ok("redis-server")
}

/// A port nobody listens on, below the range that outgoing connections take theirs from.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 11_000 + (std::process::id() % 190) as u16 * 100;
    for _ in 0..2000 {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {first} on")
}

fn subject(port: u16, dir: &Path, args: &[&str]) -> std::process::Command {
    if subject_is_redis() {
        let ours = ["--shards", "--cores", "--spin-us"];
        let kept = args.chunks(2).filter(|pair| !ours.contains(&pair[0])).flatten().copied().collect::<Vec<_>>();
        return oracle(port, dir, &kept);
    }
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_shardis"));
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(dir).args(args);
    command
}

fn oracle(port: u16, dir: &Path, args: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no", "--dir"]);
    command.arg(dir).args(args);
    command
}

fn spawn(mut command: std::process::Command, log: &Path) -> Child {
    let out = File::create(log).expect("the log's directory exists");
    let err = out.try_clone().expect("a file can be cloned");
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    command.spawn().unwrap_or_else(|error| panic!("starting {:?}: {error}", command.get_program()))
}
