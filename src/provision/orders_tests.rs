use std::fs;
use std::os::unix::fs::symlink;

use rustix::fs::Mode;

use super::*;

fn own() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let own = directory.path().join(OWN);
    fs::create_dir_all(own.join(ORDERS)).unwrap();
    (directory, own)
}

#[test]
fn orders_are_taken_once_and_only_when_they_are_whole() {
    let (_directory, own) = own();
    let orders = own.join(ORDERS);
    fs::write(orders.join("install-bundle"), "x.raucb\n").unwrap();
    fs::write(orders.join("half.part"), "x").unwrap();
    let taken = take(&own).unwrap();
    assert_eq!(taken.len(), 1);
    let order = taken.into_iter().next().unwrap().unwrap();
    assert_eq!((order.name.as_str(), order.text.as_str()), ("install-bundle", "x.raucb\n"));
    assert!(take(&own).unwrap().is_empty());
    assert_eq!(fs::read_dir(orders).unwrap().count(), 0, "what is no order is gone, too");
}

#[test]
fn no_link_is_followed_and_nothing_waited_for() {
    let (directory, own) = own();
    let secret = directory.path().join("secret");
    fs::write(&secret, "root's").unwrap();
    let orders = own.join(ORDERS);
    symlink(&secret, orders.join("install-bundle")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, orders.join("factory-reset"), Mode::RWXU).unwrap();
    fs::write(orders.join("long"), "x".repeat(5000)).unwrap();
    let taken = take(&own).unwrap();
    assert_eq!(taken.len(), 3);
    for order in taken {
        let wrong = order.err().unwrap();
        assert!(
            wrong.contains("Too many levels of symbolic links") || wrong.contains("is no short file"),
            "{wrong}"
        );
    }
    assert!(secret.exists());
    fs::remove_dir_all(&orders).unwrap();
    symlink(directory.path(), &orders).unwrap();
    assert!(take(&own).is_err(), "nor is the directory itself");
}

#[test]
fn a_bundle_lies_where_the_service_may_write() {
    let (directory, own) = own();
    fs::create_dir(own.join("updates")).unwrap();
    fs::write(own.join("updates/new.raucb"), "x").unwrap();
    symlink(own.join("updates"), own.join("link")).unwrap();
    fs::write(directory.path().join("outside"), "x").unwrap();
    for good in ["updates/new.raucb", "/var/lib/llm8850/updates/new.raucb"] {
        assert_eq!(bundle(&own, good).unwrap(), own.join("updates/new.raucb"), "{good}");
    }
    for bad in
        ["", "/", "/etc/passwd", "../outside", "updates/../../outside", "link/new.raucb", "updates", "none"]
    {
        assert_eq!(bundle(&own, bad).unwrap_err().fault, Fault::Orders, "{bad:?}");
    }
}
