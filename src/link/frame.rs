//! What supervisor and worker say to each other.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::chat::{Event, Request, RequestId, TokenId};
use crate::fault::Failure;

/// Supervisor to worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Answer `request`. `resume` holds the tokens already generated for it; the worker
    /// continues behind them as if it had produced them itself.
    Generate { id: RequestId, request: Arc<Request>, resume: Vec<TokenId> },
    /// Stop working on a request; answered by its `Done` with `Cancelled`.
    Cancel { id: RequestId },
    /// Have on the card what answering `request` with these tokens has left there, unless something else
    /// is to be done. Not answered.
    Warm { request: Arc<Request>, resume: Vec<TokenId> },
    /// Compute the answer to the test prompt, with this model or the one used last; answered by
    /// `Tested`.
    Test { model: Option<String> },
    /// Load an installed model beside the others; where it does not fit, these may be unloaded,
    /// the first first. Answered by `Added` or `NotAdded`, after an `Unloaded` for each.
    Load { model: String, evict: Vec<String> },
    /// Answered by `Unloaded`.
    Unload { model: String },
    /// Answered at once by `Pong`, whatever the card does.
    Ping { nonce: u64 },
    /// Finish the current step, unload, release the card, exit.
    Stop,
}

/// What the worker's card thread is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// What it does: "idle", "load", "prefill", "decode", "unload", …
    pub phase: String,
    /// The runtime function it is inside, if any.
    pub call: Option<String>,
    /// Milliseconds since that call (or phase) began.
    pub since_ms: u64,
    /// Counts completed card calls: a value that stands still is a stall.
    pub progress: u64,
    /// The longest completed call of each function, in milliseconds.
    #[serde(default)]
    pub slowest_ms: Vec<(String, u64)>,
}

/// How the card is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// °C.
    pub temperature_c: f32,
    /// Bytes of card memory.
    pub free_memory: u64,
}

/// What a loaded model is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    pub name: String,
    /// Tokens of prompt and answer together.
    pub context: u32,
    pub vocabulary: u32,
    pub layers: u32,
    /// Whether the template has a thinking switch.
    pub thinks: bool,
    /// Whether the copy-saving path passed its self-test.
    pub copy_saving: bool,
    /// Whether prompts are read in chunks: they passed the self-test.
    #[serde(default)]
    pub chunked: bool,
    /// The card library's version; the emulator's ends in `_emulated`.
    pub runtime: String,
    /// The chip, e.g. "AX650N".
    pub device: String,
    pub load_ms: u64,
    pub card_memory_bytes: u64,
    /// The card's firmware.
    #[serde(default)]
    pub firmware: String,
    /// What the answer to the test prompt depends on: model files, runtime, this program.
    #[serde(default)]
    pub fingerprint: String,
}

/// Worker to supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// First frame: who speaks.
    Hello {
        version: String,
        pid: u32,
    },
    /// Progress of a load.
    Loading {
        done: u32,
        of: u32,
        what: String,
    },
    /// The model answers.
    Ready(ModelInfo),
    /// An event of a request's answer.
    Answer {
        id: RequestId,
        event: Event,
    },
    /// The answer to the test prompt.
    Tested {
        model: String,
        tokens: Vec<TokenId>,
    },
    /// One more model answers.
    Added(ModelInfo),
    /// It cannot be loaded, for a reason of its own: the others go on.
    NotAdded {
        model: String,
        failure: Failure,
    },
    Unloaded {
        model: String,
    },
    /// Comes now and then.
    Health(Health),
    Pong {
        nonce: u64,
        activity: Activity,
    },
    /// The worker cannot go on; it exits after this.
    Fatal(Failure),
}
