//! The calls of the vendor's runtime (`main_api`): one conversation kept by the server.
//!
//! | to change | open |
//! |---|---|
//! | `/api/reset`, `/api/stop` | [`control`] |
//! | what is kept of the conversation, and who may continue it when | [`resident`] |
//! | answers that are begun at once and polled | [`polled`] |

pub mod control;
pub mod polled;
pub mod resident;

#[cfg(test)]
mod tests;
