//! The machine's own addresses, as the kernel tells them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::sys::root::SysRoot;

/// The first address by which others reach this machine: IPv4 before IPv6, one that a network
/// gave before one that the machine gave itself.
pub fn address(root: &SysRoot) -> Option<IpAddr> {
    let read = |path: &str| std::fs::read_to_string(root.path(path)).unwrap_or_default();
    let own = own_v4(&read("proc/net/fib_trie"));
    let given = own.iter().find(|address| !address.is_link_local()).or(own.first());
    given.map(|&v4| v4.into()).or_else(|| global_v6(&read("proc/net/if_inet6")).map(Into::into))
}

/// Each of them stands in a line before that which says it is the machine's.
fn own_v4(trie: &str) -> Vec<Ipv4Addr> {
    let mut last = None;
    let mut own = Vec::new();
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            own.extend(last.filter(|address: &Ipv4Addr| !address.is_loopback()));
        }
    }
    own
}

/// `ADDRESS INDEX LENGTH SCOPE FLAGS NAME`, all but the name hexadecimal; scope 0 is global.
fn global_v6(table: &str) -> Option<Ipv6Addr> {
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let address = u128::from_str_radix(fields.next()?, 16).ok()?;
        (fields.nth(2)? == "00").then(|| address.into())
    })
}

/// Where the service is asked, and whether that is an address of the local network: the first
/// of those it listens on that others reach.
pub fn target(listen: &[SocketAddr], own: Option<IpAddr>) -> Option<(SocketAddr, bool)> {
    let reached = |at: &SocketAddr| match (at.ip(), own) {
        (ip, _) if ip.is_loopback() => None,
        (ip, Some(own)) if ip.is_unspecified() && (ip.is_ipv6() || own.is_ipv4()) => {
            Some(SocketAddr::new(own, at.port()))
        }
        (ip, _) if ip.is_unspecified() => None,
        _ => Some(*at),
    };
    let outside = listen.iter().find_map(reached).map(|at| (at, true));
    outside.or_else(|| {
        let at = listen.first()?;
        let ip = match at.ip() {
            ip if ip.is_loopback() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        Some((SocketAddr::new(ip, at.port()), false))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIE: &str = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
           |-- 127.0.0.1
              /32 host LOCAL
     +-- 169.254.0.0/16 2 0 1
           |-- 169.254.7.7
              /32 host LOCAL
     +-- 192.168.1.0/24 2 0 2
        +-- 192.168.1.0/28 2 0 2
           |-- 192.168.1.0
              /24 link UNICAST
           |-- 192.168.1.5
              /32 host LOCAL
        |-- 192.168.1.255
           /32 link BROADCAST
";
    const INET6: &str = "00000000000000000000000000000001 01 80 10 80       lo
fe80000000000000dea632fffe000001 02 40 20 80     eth0
fd000000000000000000000000000007 02 40 00 80     eth0
";

    fn machine(trie: &str, inet6: &str) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("proc/net")).unwrap();
        std::fs::write(directory.path().join("proc/net/fib_trie"), trie).unwrap();
        std::fs::write(directory.path().join("proc/net/if_inet6"), inet6).unwrap();
        address(&SysRoot::new(directory.path())).map(|address| address.to_string())
    }

    #[test]
    fn the_address_that_a_network_gave_goes_first() {
        assert_eq!(machine(TRIE, INET6).as_deref(), Some("192.168.1.5"));
        let own_only = TRIE.split("     +-- 192").next().unwrap();
        assert_eq!(machine(own_only, INET6).as_deref(), Some("169.254.7.7"));
        assert_eq!(machine("", INET6).as_deref(), Some("fd00::7"));
        assert_eq!(machine("", "").as_deref(), None);
        assert_eq!(machine("|-- x\n/32 host LOCAL\n", "zz 1\n\n").as_deref(), None);
    }

    #[test]
    fn this_machines_own_table_is_understood() {
        let trie = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
        assert!(own_v4(&trie).iter().all(|address| !address.is_loopback()));
    }

    #[test]
    fn the_service_is_asked_where_others_ask_it() {
        let at = |listen: &[&str], own: Option<&str>| {
            let listen: Vec<_> = listen.iter().map(|at| at.parse().unwrap()).collect();
            target(&listen, own.map(|own| own.parse().unwrap())).map(|(at, lan)| (at.to_string(), lan))
        };
        let asked = |at: &str, lan| Some((at.to_owned(), lan));
        assert_eq!(at(&["0.0.0.0:8000"], Some("192.168.1.5")), asked("192.168.1.5:8000", true));
        assert_eq!(at(&["127.0.0.1:1", "0.0.0.0:8000"], Some("10.0.0.2")), asked("10.0.0.2:8000", true));
        assert_eq!(at(&["10.1.1.1:80"], Some("192.168.1.5")), asked("10.1.1.1:80", true));
        assert_eq!(at(&["[::]:8000"], Some("192.168.1.5")), asked("192.168.1.5:8000", true));
        assert_eq!(at(&["0.0.0.0:8000"], Some("fd00::7")), asked("127.0.0.1:8000", false));
        assert_eq!(at(&["0.0.0.0:8000"], None), asked("127.0.0.1:8000", false));
        assert_eq!(at(&["127.0.0.1:8000"], Some("10.0.0.2")), asked("127.0.0.1:8000", false));
        assert_eq!(at(&[], None), None);
    }
}
