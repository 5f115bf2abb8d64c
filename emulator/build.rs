//! Gives the shared library the vendor's SONAME.
fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libaxcl_rt.so");
}
