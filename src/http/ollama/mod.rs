//! Ollama's dialect: `/api/chat`, `/api/generate`, and what clients ask around them.
//!
//! | to change | open |
//! |---|---|
//! | which requests and options are understood | [`request`] |
//! | what answers look like | [`reply`] |
//! | how an answer is begun and written line by line | [`answer`] |
//! | what is told about the loaded model and the version | [`models`] |
//! | what is said to who wants to manage models | [`manage`] |

pub mod answer;
pub mod manage;
pub mod models;
pub mod reply;
pub mod request;

#[cfg(test)]
mod tests;
