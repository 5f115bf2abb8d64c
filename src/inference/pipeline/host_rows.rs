//! K and V rows in the host's memory.

use std::ops::Range;

use memmap2::MmapMut;

/// The rows of one conversation: for each layer those of K, then those of V. Memory is taken where rows
/// are written, and given back as a whole.
pub struct HostRows {
    map: MmapMut,
    /// Bytes of one row.
    row: usize,
    /// Bytes of a layer's K rows, and of its V rows.
    part: usize,
}

impl HostRows {
    /// Room for so many rows in so many parts, two for each layer; `None` where the machine has no memory for it.
    pub fn new(parts: usize, rows: usize, row: usize) -> Option<Self> {
        let part = rows.checked_mul(row).filter(|&bytes| bytes > 0)?;
        let map = MmapMut::map_anon(part.checked_mul(parts)?);
        let map = map.inspect_err(|e| tracing::warn!("no memory to save a conversation in: {e}")).ok()?;
        Some(Self { map, row, part })
    }

    /// These rows of all parts, one part after the other.
    pub fn parts(&self, rows: &Range<usize>) -> impl Iterator<Item = &[u8]> {
        let bytes = self.bytes(rows);
        self.map.chunks_exact(self.part).map(move |part| part.get(bytes.clone()).unwrap_or_default())
    }

    /// The same to be written.
    pub fn parts_mut(&mut self, rows: &Range<usize>) -> impl Iterator<Item = &mut [u8]> {
        let bytes = self.bytes(rows);
        self.map.chunks_exact_mut(self.part).map(move |part| part.get_mut(bytes.clone()).unwrap_or_default())
    }

    fn bytes(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.row..rows.end * self.row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_own_rows() {
        let mut rows = HostRows::new(4, 10, 8).unwrap();
        for (number, part) in (1..).zip(rows.parts_mut(&(2..5))) {
            part.fill(number);
        }
        for (number, part) in (1..).zip(rows.parts(&(0..10))) {
            let expected = [[0; 16].as_slice(), &[number; 24], &[0; 40]].concat();
            assert_eq!(part, expected, "part {number}");
        }
        assert_eq!(rows.parts(&(0..1)).count(), 4);
    }

    #[test]
    fn what_is_not_there_is_empty() {
        let rows = HostRows::new(2, 3, 8).unwrap();
        assert!(rows.parts(&(2..4)).all(<[u8]>::is_empty));
        assert!(HostRows::new(2, usize::MAX, 8).is_none());
        assert!(HostRows::new(2, 0, 8).is_none());
    }
}
