//! The card's C library, dlopened: the only room with `unsafe`.

pub mod mapped;
