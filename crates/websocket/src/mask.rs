//! The mask that clients put on what they send.

/// Takes the mask off, or puts it on. `offset` is how far into the payload the bytes begin.
pub(crate) fn apply(bytes: &mut [u8], mask: [u8; 4], offset: u64) {
    let mut key = mask;
    key.rotate_left((offset % 4) as usize);
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::apply;

    #[test]
    fn each_byte_has_its_part_of_the_mask_wherever_the_pieces_are_cut() {
        let mask = [1, 20, 200, 77];
        let plain: Vec<u8> = (0..60).collect();
        let expected: Vec<u8> = plain.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m).collect();
        for cut in 0..plain.len() {
            let mut bytes = plain.clone();
            apply(&mut bytes[..cut], mask, 0);
            apply(&mut bytes[cut..], mask, cut as u64);
            assert_eq!(bytes, expected, "cut at {cut}");
        }
    }
}
