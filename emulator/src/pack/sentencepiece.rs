//! Merges for vocabularies that come as pieces with scores: a pair is joined where the
//! joint is a piece, better scores first.

use std::collections::HashMap;

/// All merges of `pieces`, in the order of their use.
pub fn merges(pieces: &[String], scores: &[f32]) -> Vec<(String, String)> {
    let ids: HashMap<&str, usize> = pieces.iter().enumerate().map(|(id, p)| (p.as_str(), id)).collect();
    let mut merges = Vec::new();
    for (piece, &score) in pieces.iter().zip(scores) {
        let mut splits: Vec<(usize, usize, &str, &str)> = piece
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| {
                let (left, right) = piece.split_at(at);
                Some((*ids.get(left)?, *ids.get(right)?, left, right))
            })
            .collect();
        splits.sort();
        merges.extend(splits.into_iter().map(|(_, _, left, right)| (score, left, right)));
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    merges.into_iter().map(|(_, left, right)| (left.to_owned(), right.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_scores_merge_first() {
        let pieces: Vec<String> = ["a", "b", "c", "ab", "bc", "abc"].iter().map(|&p| p.to_owned()).collect();
        let scores = [0.0, 0.0, 0.0, -2.0, -1.0, -3.0];
        let merges = merges(&pieces, &scores);
        let text: Vec<String> = merges.iter().map(|(a, b)| format!("{a}+{b}")).collect();
        assert_eq!(text, ["b+c", "a+b", "a+bc", "ab+c"]);
    }
}
