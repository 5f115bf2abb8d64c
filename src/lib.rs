//! llm8850: an unattended chat-completion appliance.
//!
//! # Layout
//!
//! | to change | open |
//! |---|---|
//! | what a fault is called and what to do about it | [`fault`] |
//! | what a request or a reply consists of | [`chat`] |
//! | what HTTP clients may send and get | [`http`] |
//! | what can be configured | [`config`] |
//! | what supervisor and worker say to each other | [`link`] |
//! | when a worker is started, stopped or replaced | [`machine`] |
//! | how faults outside the worker are noticed | [`detect`] |
//! | what is remembered over restarts | [`ledger`] |
//! | what the lights show | [`lights`] |
//! | what a held button asks for | [`button`] |
//! | how card, driver, slot and host are restarted | [`recover`] |
//! | how requests wait, run and survive a worker | [`service`] |
//! | what is counted and measured | [`metrics`] |
//! | what becomes of `appliance.toml`, and of the data partitions | [`provision`] |
//! | which of the two systems is started, and when one is left | [`slots`] |
//! | clock, calendar, chance, journal and service manager | [`sys`] |
//! | how the card's library is called | [`axcl`] |
//! | the worker's threads, its life and its end | [`worker`] |
//! | loading, prefill, decode on the card | [`inference::pipeline`] |
//! | how a model package is read | [`model`] |
//! | how messages become tokens and tokens become text | [`inference`] |

pub mod axcl;
pub mod button;
pub mod chat;
pub mod config;
pub mod detect;
pub mod fault;
pub mod http;
pub mod inference;
pub mod ledger;
pub mod lights;
pub mod link;
pub mod machine;
pub mod metrics;
pub mod model;
pub mod packages;
pub mod provision;
pub mod recover;
pub mod service;
pub mod slots;
pub mod sys;
pub mod worker;
