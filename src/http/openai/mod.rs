//! OpenAI's dialect: chat completions, completions, responses and models; Azure's is the same
//! on other paths.
//!
//! | to change | open |
//! |---|---|
//! | which parameters are understood, and their ranges | [`request`] |
//! | which messages are understood | [`message`] |
//! | what answers look like | [`reply`] |
//! | how an answer is begun and written piece by piece | [`chat`] |
//! | several answers to one request | [`several`] |
//! | the older completions | [`completions`] |
//! | the newer responses | [`responses`] |

pub mod chat;
pub mod completions;
pub mod message;
pub mod models;
pub mod reply;
pub mod request;
pub mod responses;
pub mod several;

#[cfg(test)]
mod tests;
