//! OpenAI's dialect: chat completions and models.
//!
//! | to change | open |
//! |---|---|
//! | which parameters are understood, and their ranges | [`request`] |
//! | which messages are understood | [`message`] |
//! | what answers look like | [`reply`] |
//! | how an answer is begun and written piece by piece | [`chat`] |

pub mod chat;
pub mod message;
pub mod models;
pub mod reply;
pub mod request;
