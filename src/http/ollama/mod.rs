//! Ollama's dialect: `/api/chat`, `/api/generate`, and what clients ask around them.
//!
//! | to change | open |
//! |---|---|
//! | which requests and options are understood | [`request`] |
//! | what answers look like | [`reply`] |
//! | how an answer is begun and written line by line | [`answer`] |
//! | what is told about the loaded model and the version | [`models`] |
//! | how models are pulled and deleted | [`pull`] |
//! | what is said to who wants to manage models otherwise | [`manage`] |

pub mod answer;
pub mod manage;
pub mod models;
pub mod pull;
pub mod reply;
pub mod request;

#[cfg(test)]
mod tests;
