//! Attention masks, as bf16 bit patterns added to the attention scores.

use super::geometry::Group;

/// The token may be looked at.
pub const VISIBLE: u16 = 0;
/// bf16 −65536: the token may not be looked at.
pub const HIDDEN: u16 = 0xc780;

/// The mask of a one-token group at `position`: the first `position` cached tokens and the
/// token itself (the last column) are visible.
pub fn decode(group: &Group, position: usize) -> Vec<u16> {
    let mut mask = vec![HIDDEN; group.columns()];
    mask.iter_mut().take(position).for_each(|m| *m = VISIBLE);
    if let Some(own) = mask.last_mut() {
        *own = VISIBLE;
    }
    mask
}

/// A stretch of a one-token group's mask to rewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// First column.
    pub start: usize,
    pub values: Vec<u16>,
}

/// What changes between the mask shown (`None`: unknown) and that of `position`.
/// From one token to the next it is one column: two bytes.
pub fn patch(group: &Group, shown: Option<usize>, position: usize) -> Option<Patch> {
    match shown {
        None => Some(Patch { start: 0, values: decode(group, position) }),
        Some(shown) if shown == position => None,
        Some(shown) if shown < position => {
            Some(Patch { start: shown, values: vec![VISIBLE; position - shown] })
        }
        Some(shown) => Some(Patch { start: position, values: vec![HIDDEN; shown - position] }),
    }
}

/// The first `rows` rows of the mask of a chunk behind `history` cached tokens: row r sees them all,
/// and of the chunk the tokens up to itself. Rows × columns, row by row.
pub fn chunk(group: &Group, history: usize, rows: usize) -> Vec<u16> {
    let mut mask = Vec::with_capacity(rows * group.columns());
    for row in 0..rows {
        mask.extend((0..group.history).map(|j| if j < history { VISIBLE } else { HIDDEN }));
        mask.extend((0..group.rows).map(|c| if c <= row { VISIBLE } else { HIDDEN }));
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn group(rows: usize, history: usize) -> Group {
        Group { number: 0, rows, history }
    }

    #[test]
    fn hidden_is_minus_65536() {
        assert_eq!(half::bf16::from_bits(HIDDEN).to_f32(), -65536.0);
    }

    #[test]
    fn a_token_sees_what_came_before_and_itself() {
        let h = HIDDEN;
        assert_eq!(decode(&group(1, 5), 0), [h, h, h, h, h, 0]);
        assert_eq!(decode(&group(1, 5), 2), [0, 0, h, h, h, 0]);
        assert_eq!(decode(&group(1, 5), 5), [0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_chunk_sees_history_and_the_triangle() {
        let h = HIDDEN;
        assert_eq!(chunk(&group(2, 0), 0, 2), [0, h, 0, 0]);
        assert_eq!(chunk(&group(2, 3), 2, 2), [0, 0, h, 0, h, 0, 0, h, 0, 0]);
    }

    #[test]
    fn the_next_token_costs_one_column() {
        let step = patch(&group(1, 9), Some(4), 5).unwrap();
        assert_eq!(step, Patch { start: 4, values: vec![VISIBLE] });
        assert_eq!(patch(&group(1, 9), Some(5), 5), None);
    }

    proptest! {
        #[test]
        fn patches_lead_from_any_position_to_any_other(steps in prop::collection::vec(0usize..=20, 1..12)) {
            let group = group(1, 20);
            let (mut shown, mut mask) = (None, vec![0x1234; group.columns()]);
            for position in steps {
                if let Some(patch) = patch(&group, shown, position) {
                    mask[patch.start..patch.start + patch.values.len()].copy_from_slice(&patch.values);
                }
                shown = Some(position);
                prop_assert_eq!(&mask, &decode(&group, position));
            }
        }
    }
}
