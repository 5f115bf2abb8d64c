//! A vocabulary as llguidance wants it: what it needs to say which tokens fit a grammar.

use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};

use super::pieces::Pieces;
use crate::chat::TokenId;
use crate::fault::{Failure, Fault, Result};

/// Symbols of one grammar: about a hundred kilobytes of JSON schema.
const SYMBOLS: usize = 50_000;

/// Compiles grammars over the tokens of one model. `ends` may end an answer wherever a
/// grammar lets it end.
///
/// # Errors
/// [`Fault::Tokenizer`].
pub fn factory(pieces: &Pieces, ends: &[TokenId], vocabulary: usize) -> Result<ParserFactory> {
    let failed = |what: String| Failure::new(Fault::Tokenizer, format!("grammars: {what}"));
    let count = u32::try_from(vocabulary).map_err(|e| failed(e.to_string()))?;
    let ends: Vec<TokenId> = ends.iter().copied().filter(|&end| end < count).collect();
    let Some(&end) = ends.first() else {
        return Err(failed("no token of the vocabulary ends an answer".into()));
    };
    let words: Vec<Vec<u8>> = (0..count).map(|id| word(pieces, id)).collect();
    let trie = TokTrie::from(&TokRxInfo::new(count, end), &words).with_eos_tokens(&ends);
    let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let slices = SlicedBiasComputer::general_slices();
    let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
        .map_err(|e| failed(format!("{e:#}")))?;
    factory.quiet();
    let limits = factory.limits_mut();
    limits.max_grammar_size = SYMBOLS;
    limits.verbose_errors = false;
    Ok(factory)
}

/// A token's bytes; control tokens are marked as such, so that no text is made of them.
fn word(pieces: &Pieces, id: TokenId) -> Vec<u8> {
    let bytes = pieces.bytes(id);
    if pieces.is_hidden(id) && !bytes.is_empty() {
        [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat()
    } else {
        bytes.to_vec()
    }
}
