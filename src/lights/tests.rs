//! The task with LEDs that are files, in virtual time.

use std::fs;
use std::path::PathBuf;

use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::machine::state::{Rung, State};

const STATUS: &str = "llm8850:status";
const FAULT: &str = "llm8850:fault";
const KERNEL: &str = "[none] timer pattern";

struct Panel {
    root: SysRoot,
    looks: watch::Sender<Look>,
    _directory: tempfile::TempDir,
}

impl Panel {
    fn new(trigger: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let panel = Self {
            root: SysRoot::new(directory.path()),
            looks: watch::Sender::new(Look::default()),
            _directory: directory,
        };
        for led in [STATUS, FAULT] {
            fs::create_dir_all(panel.file(led, "")).unwrap();
            let files = [("trigger", trigger), ("max_brightness", "255"), ("brightness", "")];
            for (name, text) in files.into_iter().chain([("pattern", ""), ("repeat", "")]) {
                fs::write(panel.file(led, name), text).unwrap();
            }
        }
        panel
    }

    fn file(&self, led: &str, name: &str) -> PathBuf {
        self.root.path("sys/class/leds").join(led).join(name)
    }

    fn text(&self, led: &str, name: &str) -> String {
        fs::read_to_string(self.file(led, name)).unwrap()
    }

    fn start(&self) -> JoinHandle<()> {
        tokio::spawn(run(config::Lights::default(), self.root.clone(), self.looks.subscribe()))
    }

    /// Lets virtual time pass while `state` is shown.
    async fn show(&self, state: State, ms: u64) {
        self.looks.send_replace(Look { state, ..Look::default() });
        sleep(Duration::from_millis(ms)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_kernel_is_handed_finite_patterns_that_end_dark() {
    let panel = Panel::new(KERNEL);
    let task = panel.start();
    for state in [State::Booting, State::Ready, State::Busy, State::Recovering(Rung::R4), State::Parked] {
        panel.show(state, 10).await;
        for led in [STATUS, FAULT] {
            assert_eq!(
                (panel.text(led, "trigger"), panel.text(led, "repeat")),
                ("pattern".into(), "1".into())
            );
            let pattern = panel.text(led, "pattern");
            let numbers: Vec<u64> = pattern.split(' ').map(|number| number.parse().unwrap()).collect();
            let times: u64 = numbers.iter().skip(1).step_by(2).sum();
            assert!((9000..=10_001).contains(&times), "{state:?}: {times} ms");
            assert!(pattern.ends_with("0 1 0 0") && numbers.len() <= 2048, "{pattern}");
        }
    }
    panel.show(State::Recovering(Rung::R1), 10).await;
    assert!(panel.text(STATUS, "pattern").starts_with("0 1000 0 0 "));
    assert!(panel.text(FAULT, "pattern").starts_with("255 200 255 0 0 4800 0 0 255 200 "), "jumps");
    panel.show(State::Ready, 10).await;
    assert!(panel.text(STATUS, "pattern").starts_with("0 1200 255 1200 0 1200 "), "glides");
    panel.show(State::Degraded, 10).await;
    let double = "0 450 255 450 0 450 255 450 0 3000 0 450 ";
    assert!(panel.text(STATUS, "pattern").starts_with(double), "rests at full length");
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn precise_timers_are_used_where_the_kernel_has_them() {
    let panel = Panel::new(KERNEL);
    fs::write(panel.file(STATUS, "hr_pattern"), "").unwrap();
    let task = panel.start();
    panel.show(State::Recovering(Rung::R1), 10).await;
    assert!(panel.text(STATUS, "hr_pattern").starts_with("0 1000 0 0 "));
    assert_eq!((panel.text(STATUS, "pattern"), panel.text(STATUS, "repeat")), (String::new(), "1".into()));
    assert!(panel.text(FAULT, "pattern").starts_with("255 200 "), "as every kernel can");
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn patterns_are_renewed_within_five_seconds() {
    let panel = Panel::new(KERNEL);
    let task = panel.start();
    panel.show(State::Ready, 10).await;
    for _ in 0..3 {
        fs::write(panel.file(STATUS, "repeat"), "").unwrap();
        sleep(Duration::from_millis(4900)).await;
        assert_eq!(panel.text(STATUS, "repeat"), "", "not yet");
        sleep(Duration::from_millis(100)).await;
        assert_eq!(panel.text(STATUS, "repeat"), "1");
    }
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn where_patterns_may_not_be_written_brightness_is_set_step_by_step() {
    let panel = Panel::new(KERNEL);
    // Root may write every file, but not a directory.
    fs::remove_file(panel.file(FAULT, "repeat")).unwrap();
    fs::create_dir(panel.file(FAULT, "repeat")).unwrap();
    let task = panel.start();
    panel.show(State::Parked, 10).await;
    assert_eq!(
        (panel.text(FAULT, "trigger"), panel.text(FAULT, "brightness")),
        ("none".into(), "255".into())
    );
    assert!(panel.text(STATUS, "pattern").starts_with("0 1000 "), "the other one is played");
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn without_kernel_patterns_brightness_is_set_step_by_step() {
    let panel = Panel::new("[none] timer");
    fs::write(panel.file(FAULT, "max_brightness"), "7\n").unwrap();
    let task = panel.start();
    panel.show(State::Recovering(Rung::R2), 10).await;
    let mut seen = Vec::new();
    for _ in 0..25 {
        seen.push(panel.text(FAULT, "brightness"));
        sleep(Duration::from_millis(200)).await;
    }
    let lit: Vec<usize> = (0..25).filter(|&n| seen[n] == "7").collect();
    assert_eq!(lit, [0, 2], "{seen:?}");
    assert_eq!(panel.text(STATUS, "brightness"), "0");
    panel.show(State::Parked, 10).await;
    assert_eq!(panel.text(FAULT, "brightness"), "7");
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn tokens_flicker() {
    let panel = Panel::new("[none]");
    let task = panel.start();
    panel.show(State::Busy, 200).await;
    assert_eq!(panel.text(STATUS, "brightness"), "255");
    for tokens in 1..5 {
        panel.looks.send_replace(Look { state: State::Busy, tokens, ..Look::default() });
        sleep(Duration::from_millis(10)).await;
        assert_eq!(panel.text(STATUS, "brightness"), "0", "dips at token {tokens}");
        sleep(Duration::from_millis(190)).await;
        assert_eq!(panel.text(STATUS, "brightness"), "255");
    }
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn lights_that_fail_do_not_end_the_task_and_may_come_back() {
    let panel = Panel::new(KERNEL);
    let task = panel.start();
    panel.show(State::Ready, 10).await;
    fs::remove_file(panel.file(FAULT, "pattern")).unwrap();
    panel.show(State::Parked, 100_000).await;
    assert!(!task.is_finished());
    fs::write(panel.file(FAULT, "pattern"), "").unwrap();
    sleep(RETRY + Duration::from_millis(10)).await;
    assert!(panel.text(FAULT, "pattern").starts_with("255 1000 "), "steady");
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn the_lights_go_dark_in_the_end() {
    let panel = Panel::new("[none]");
    let task = panel.start();
    panel.show(State::Parked, 10).await;
    assert_eq!(panel.text(FAULT, "brightness"), "255");
    let Panel { root, looks, _directory } = panel;
    drop(looks);
    task.await.unwrap();
    let brightness = root.path("sys/class/leds").join(FAULT).join("brightness");
    assert_eq!(fs::read_to_string(brightness).unwrap(), "0");
}

#[cfg(target_arch = "x86_64")]
#[tokio::test(start_paused = true)]
async fn pins_where_there_are_none_are_no_reason_to_end() {
    let panel = Panel::new(KERNEL);
    let lights = config::Lights { driver: config::Driver::Gpio, ..config::Lights::default() };
    let task = tokio::spawn(run(lights, panel.root.clone(), panel.looks.subscribe()));
    panel.show(State::Ready, 100_000).await;
    assert!(!task.is_finished());
    drop(panel);
    task.await.unwrap();
}

#[test]
fn auto_prefers_leds_then_pins_of_a_pi() {
    let panel = Panel::new(KERNEL);
    let lights = config::Lights::default();
    assert_eq!(chosen(&lights, &panel.root), config::Driver::Leds);
    fs::remove_dir_all(panel.file(FAULT, "")).unwrap();
    assert_eq!(chosen(&lights, &panel.root), config::Driver::None);
    fs::create_dir_all(panel.root.path("proc/device-tree")).unwrap();
    fs::write(panel.root.path("proc/device-tree/model"), "Raspberry Pi 5 Model B Rev 1.0\0").unwrap();
    assert_eq!(chosen(&lights, &panel.root), config::Driver::Gpio);
    let leds = config::Lights { driver: config::Driver::Leds, ..lights };
    assert_eq!(chosen(&leds, &panel.root), config::Driver::Leds, "as told");
}
