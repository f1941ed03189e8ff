//! From payload to signs and back: CRC-32, then a convolutional code of rate 1/4 and constraint length 9, read by a soft
//! Viterbi decoder.
//!
//! Invariant: what `decode` answers has passed the CRC over the length and the payload.

/// Bytes of the checksum.
const CRC_BYTES: usize = 4;
/// Signs that each bit becomes.
const RATE: usize = 4;
/// Bits of the encoder's memory; as many zeros end a message.
const MEMORY_BITS: usize = 8;
const STATES: usize = 1 << MEMORY_BITS;
/// The best known generators of this rate and length (Larsen 1973), with the largest free distance: 24.
const GENERATORS: [u32; RATE] = [0o463, 0o535, 0o733, 0o745];

/// Signs of a message of `payload_bytes`.
pub(super) fn coded_signs(payload_bytes: usize) -> usize {
    ((payload_bytes + CRC_BYTES) * 8 + MEMORY_BITS) * RATE
}

/// The message as signs, −1 or 1.
pub(super) fn encode(payload: &[u8]) -> Vec<f32> {
    let message = [payload, &checksum(payload).to_be_bytes()].concat();
    let bits = message
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| u32::from(byte >> bit & 1)))
        .chain([0; MEMORY_BITS]);
    let mut register = 0;
    bits.flat_map(|bit| {
        register = (register << 1 | bit) & (2 * STATES as u32 - 1);
        signs_of(register)
    })
    .collect()
}

/// The payload of `payload_bytes` that `soft` most likely says (positive for the sign 1), where its checksum holds.
pub(super) fn decode(soft: &[f32], payload_bytes: usize) -> Option<Vec<u8>> {
    let message_bits = (payload_bytes + CRC_BYTES) * 8;
    let bits = most_likely(soft, message_bits);
    let message: Vec<u8> = bits
        .as_chunks::<8>()
        .0
        .iter()
        .map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | bit))
        .collect();
    let (payload, crc) = message.split_at_checked(payload_bytes)?;
    (checksum(payload).to_be_bytes() == crc).then(|| payload.to_vec())
}

/// Over the length too, so that a message is not taken for a shorter or a longer one.
fn checksum(payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[payload.len() as u8]);
    hasher.update(payload);
    hasher.finalize()
}

fn signs_of(register: u32) -> [f32; RATE] {
    GENERATORS.map(|generator| match (register & generator).count_ones() & 1 {
        0 => 1.0,
        _ => -1.0,
    })
}

/// Viterbi's algorithm; the path begins and ends in state 0.
fn most_likely(soft: &[f32], message_bits: usize) -> Vec<u8> {
    let branch_signs: Vec<[f32; RATE]> = (0..2 * STATES as u32).map(signs_of).collect();
    let mut metrics = [f32::NEG_INFINITY; STATES];
    metrics[0] = 0.0;
    // Bit 8 of the register that led to each state, at each step.
    let mut oldest_bits: Vec<[bool; STATES]> = Vec::with_capacity(message_bits + MEMORY_BITS);
    for (step, soft) in soft.as_chunks::<RATE>().0.iter().enumerate() {
        let mut next = [f32::NEG_INFINITY; STATES];
        let mut oldest = [false; STATES];
        for (state, (next, oldest)) in next.iter_mut().zip(&mut oldest).enumerate() {
            // Only zeros follow the message.
            if step >= message_bits && state & 1 == 1 {
                continue;
            }
            let metric = |register: usize| {
                let signs = &branch_signs[register];
                let agreement: f32 = signs.iter().zip(soft).map(|(sign, soft)| sign * soft).sum();
                metrics[register >> 1] + agreement
            };
            let (without, with) = (metric(state), metric(state | STATES));
            *oldest = with > without;
            *next = without.max(with);
        }
        metrics = next;
        oldest_bits.push(oldest);
    }
    let mut state = 0;
    let mut bits: Vec<u8> = oldest_bits
        .iter()
        .rev()
        .map(|oldest| {
            let bit = (state & 1) as u8;
            state = (state | if oldest[state] { STATES } else { 0 }) >> 1;
            bit
        })
        .collect();
    bits.reverse();
    bits.truncate(message_bits);
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_comes_back_through_noise_and_no_other_length_takes_it() {
        for payload in [&b"\xc0\xff\xee\x01"[..], &[0; 5], &[0xff; 8]] {
            let mut signs = encode(payload);
            assert_eq!(signs.len(), coded_signs(payload.len()));
            // Every sixth sign is wrong, every seventh is lost.
            signs.iter_mut().step_by(6).for_each(|sign| *sign = -*sign);
            signs.iter_mut().step_by(7).for_each(|sign| *sign = 0.0);
            assert_eq!(decode(&signs, payload.len()).as_deref(), Some(payload));
            for other in (4..=8).filter(|other| *other != payload.len()) {
                let mut resized = signs.clone();
                resized.resize(coded_signs(other), 0.0);
                assert_eq!(decode(&resized, other), None, "{other} bytes");
            }
        }
    }

    #[test]
    fn noise_is_no_payload() {
        let mut state = 1_u64;
        for _ in 0..200 {
            let noise: Vec<f32> = (0..coded_signs(4))
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    (state >> 40) as f32 / (1 << 23) as f32 - 1.0
                })
                .collect();
            assert_eq!(decode(&noise, 4), None);
        }
    }
}
