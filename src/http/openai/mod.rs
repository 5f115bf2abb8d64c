//! OpenAI's dialect: chat completions and models.
//!
//! | to change | open |
//! |---|---|
//! | which parameters are understood, and their ranges | [`request`] |
//! | which messages are understood | [`message`] |
//! | how wrong types and values are told | [`fields`] |
//! | what answers look like | [`reply`] |
//! | how an answer is collected or streamed | [`chat`] |

pub mod chat;
pub mod fields;
pub mod message;
pub mod models;
pub mod reply;
pub mod request;
