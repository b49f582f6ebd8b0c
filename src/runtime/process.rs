//! What the kernel and the allocator say about this process, for INFO.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use tikv_jemalloc_ctl::{epoch, stats};

#[derive(Clone, Debug, Default)]
pub struct Usage {
    pub process_id: u32,
    pub executable: String,
    /// Name, release and architecture, as `uname -srm`.
    pub os: String,
    pub system_memory_bytes: u64,
    pub resident_bytes: u64,
    /// Of the allocator: handed out, in pages that hold some of it, and mapped.
    pub allocated_bytes: u64,
    pub active_bytes: u64,
    pub mapped_bytes: u64,
    /// The most that was handed out at any reading.
    pub allocated_peak_bytes: u64,
    pub cpu: CpuTimes,
    pub cpu_children: CpuTimes,
}

/// Microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTimes {
    pub system_us: u64,
    pub user_us: u64,
}

/// What can't be read is 0 or empty: INFO answers as well as it can.
pub fn usage() -> Usage {
    // The allocator's statistics are as of the last step of its epoch.
    let _ = epoch::advance();
    let allocated = stats::allocated::read().unwrap_or(0) as u64;
    Usage {
        process_id: std::process::id(),
        executable: std::env::current_exe().map_or_else(|_| String::new(), |path| path.display().to_string()),
        os: os(),
        system_memory_bytes: system_memory_bytes(),
        resident_bytes: resident_bytes(),
        allocated_bytes: allocated,
        active_bytes: stats::active::read().unwrap_or(0) as u64,
        mapped_bytes: stats::resident::read().unwrap_or(0) as u64,
        allocated_peak_bytes: PEAK.fetch_max(allocated, Ordering::Relaxed).max(allocated),
        cpu: cpu_times(libc::RUSAGE_SELF),
        cpu_children: cpu_times(libc::RUSAGE_CHILDREN),
    }
}

static PEAK: AtomicU64 = AtomicU64::new(0);

fn os() -> String {
    let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_string();
    let (name, release) = (line("/proc/sys/kernel/ostype"), line("/proc/sys/kernel/osrelease"));
    format!("{name} {release} {}", std::env::consts::ARCH)
}

fn system_memory_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}

fn resident_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    // SAFETY: a plain question to the system.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.unwrap_or(0) * page_bytes.max(0) as u64
}

fn cpu_times(whose: libc::c_int) -> CpuTimes {
    // SAFETY: rusage is plain numbers, valid when zeroed.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a valid rusage. On failure the zeros stay.
    unsafe { libc::getrusage(whose, &mut usage) };
    let us = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    CpuTimes { system_us: us(usage.ru_stime), user_us: us(usage.ru_utime) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_running_process_has_a_number_memory_and_a_kernel() {
        let usage = super::usage();
        assert_eq!(usage.process_id, std::process::id());
        assert!(usage.resident_bytes > 0 && usage.resident_bytes < usage.system_memory_bytes);
        assert!(usage.os.starts_with("Linux "));
    }
}
