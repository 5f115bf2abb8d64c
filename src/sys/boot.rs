//! Which run of the kernel this is.

use super::root::SysRoot;

/// The kernel's identifier of this boot; empty where it does not tell.
pub fn id(root: &SysRoot) -> String {
    let text = std::fs::read_to_string(root.path("proc/sys/kernel/random/boot_id"));
    text.map(|text| text.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_boot_has_a_lasting_name_and_an_empty_root_has_none() {
        let name = id(&SysRoot::default());
        assert_eq!(name.len(), 36, "{name:?}");
        assert_eq!(id(&SysRoot::default()), name);
        assert_eq!(id(&SysRoot::new(tempfile::tempdir().unwrap().path())), "");
    }
}
