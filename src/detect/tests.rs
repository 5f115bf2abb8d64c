//! The watchers on a directory that stands for `/`, with a real FIFO as kernel log.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Sighting, Watch};
use crate::fault::Fault;
use crate::sys::root::SysRoot;

const PATIENCE: Duration = Duration::from_secs(90);
const CARD: &str = "sys/bus/pci/devices/0001:01:00.0";

struct Host {
    root: SysRoot,
    watched: watch::Sender<Vec<u32>>,
    _directory: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            root: SysRoot::new(directory.path()),
            watched: watch::Sender::new(Vec::new()),
            _directory: directory,
        }
    }

    fn write(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        let path = self.root.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn fifo(&self) {
        let path = self.root.path("dev/kmsg");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }

    /// As the kernel: held open for reading, too, so that it never blocks.
    fn kernel(&self) -> File {
        OpenOptions::new().read(true).write(true).open(self.root.path("dev/kmsg")).unwrap()
    }

    fn plug(&self, vendor: [u8; 2], speed: &str) {
        self.write(format!("{CARD}/vendor"), b"0x1f4b\n");
        self.write(format!("{CARD}/device"), b"0x0650\n");
        self.write(format!("{CARD}/current_link_speed"), speed.as_bytes());
        self.write(format!("{CARD}/current_link_width"), b"2\n");
        self.write(format!("{CARD}/config"), &[&vendor[..], &[0x50, 0x06]].concat());
    }

    fn watch(&self) -> Watch {
        Watch::start(&self.root, self.watched.subscribe())
    }
}

async fn next(watch: &mut Watch) -> Sighting {
    timeout(PATIENCE, watch.next()).await.expect("nothing was seen")
}

async fn trouble(watch: &mut Watch) -> (Fault, String) {
    match next(watch).await {
        Sighting::Trouble(failure) => (failure.fault, failure.detail),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_kernel_is_heard_also_after_its_log_was_opened_anew() {
    let host = Host::new();
    host.fifo();
    let mut watch = host.watch();
    let mut kernel = host.kernel();
    let records = "6,1,10,-;pcieport: link up\n SUBSYSTEM=pci\n3,2,20,-;axcl: device 1: dead!\n";
    kernel.write_all(records.as_bytes()).unwrap();
    let (fault, detail) = trouble(&mut watch).await;
    assert_eq!(fault, Fault::CardDead);
    assert!(detail.contains("axcl: device 1: dead!"), "{detail}");

    // The log ends: its only writer is gone, another one comes.
    drop(kernel);
    fs::remove_file(host.root.path("dev/kmsg")).unwrap();
    host.fifo();
    let mut kernel = host.kernel();
    kernel.write_all(b"3,3,30,-;Patch file not found axcl/ax650_card.pac\n").unwrap();
    assert_eq!(trouble(&mut watch).await.0, Fault::Firmware);
}

#[tokio::test(start_paused = true)]
async fn a_card_is_seen_to_lose_its_link_to_get_slow_to_go_and_to_come() {
    let host = Host::new();
    host.plug([0x4b, 0x1f], "8.0 GT/s PCIe\n");
    let mut watch = host.watch();
    assert_eq!(next(&mut watch).await, Sighting::CardPresent);
    // Only configuration space shows that nobody answers.
    host.plug([0xff, 0xff], "8.0 GT/s PCIe\n");
    let (fault, detail) = trouble(&mut watch).await;
    assert_eq!((fault, detail.as_str()), (Fault::CardLink, "0001:01:00.0 answers all ones"));
    host.plug([0x4b, 0x1f], "2.5 GT/s PCIe\n");
    let (fault, detail) = trouble(&mut watch).await;
    assert_eq!(fault, Fault::CardLink);
    assert!(detail.contains("runs at 2.5 GT/s on 2 lanes; it ran at 8 GT/s"), "{detail}");
    fs::remove_dir_all(host.root.path(CARD)).unwrap();
    assert_eq!(next(&mut watch).await, Sighting::CardMissing);
    host.plug([0x4b, 0x1f], "8.0 GT/s PCIe\n");
    assert_eq!(next(&mut watch).await, Sighting::CardPresent);
}

#[tokio::test(start_paused = true)]
async fn without_a_bus_a_log_and_processes_nothing_is_seen() {
    let host = Host::new();
    let mut watch = host.watch();
    assert!(timeout(Duration::from_secs(600), watch.next()).await.is_err());
    fs::create_dir_all(host.root.path("sys/bus/pci/devices")).unwrap();
    assert_eq!(next(&mut watch).await, Sighting::CardMissing);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_task_of_a_watched_process_is_seen() {
    let host = Host::new();
    let mut watch = host.watch();
    for process in [41, 42] {
        host.write(format!("proc/{process}/task/{process}/stat"), b"41 (io) S 1 1 1 0 -1 0 0 0 0 0 0 0");
        host.write(format!("proc/{process}/task/99/stat"), b"99 (card) D 1 1 1 0 -1 0 0 0 0 0 0 0");
        host.write(format!("proc/{process}/task/99/wchan"), b"axcl_pcie_port_create");
    }
    host.watched.send_replace(vec![40, 42]);
    let (fault, detail) = timeout(Duration::from_secs(75), trouble(&mut watch)).await.unwrap();
    assert_eq!(fault, Fault::TaskStuck);
    assert!(detail.starts_with("task 99 (card) of process 42 for "), "{detail}");
    assert!(timeout(Duration::from_secs(600), watch.next()).await.is_err(), "told once, 42 alone");
}

#[tokio::test]
async fn a_hanging_look_at_the_bus_does_not_keep_the_kernel_from_being_heard() {
    let host = Host::new();
    host.fifo();
    host.plug([0x4b, 0x1f], "8.0 GT/s PCIe\n");
    // A FIFO that nobody writes stands for a file whose reading hangs.
    let config = host.root.path(format!("{CARD}/config"));
    fs::remove_file(&config).unwrap();
    mknodat(CWD, &config, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut watch = host.watch();
    let mut answer = loop {
        // Succeeds when the watcher has opened its end.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
        match OpenOptions::new().write(true).custom_flags(flags).open(&config) {
            Ok(file) => break file,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let mut kernel = host.kernel();
    kernel.write_all(b"3,2,20,-;axcl: device 1: dead!\n").unwrap();
    assert_eq!(trouble(&mut watch).await.0, Fault::CardDead);
    answer.write_all(&[0x4b, 0x1f, 0x50, 0x06]).unwrap();
    assert_eq!(next(&mut watch).await, Sighting::CardPresent);
}
