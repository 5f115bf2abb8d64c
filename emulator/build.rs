//! Builds the variadic part of the library and gives it the vendor's SONAME.
fn main() {
    println!("cargo:rerun-if-changed=src/abi/app_log.c");
    cc::Build::new().file("src/abi/app_log.c").warnings(true).compile("axcl_app_log");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libaxcl_rt.so");
    // Its threads outlive dlclose, so its code must as well.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
