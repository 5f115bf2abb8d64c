//! Frames as bytes.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 2 | `L8` |
//! | 2 | 1 | protocol version |
//! | 3 | 1 | zero |
//! | 4 | 4 | body length in bytes, little endian, at most [`MAX_BODY`] |
//! | 8 | 8 | sequence number per direction, little endian, from 0 without gaps |
//! | 16 | 4 | CRC-32 of the body, little endian |
//! | 20 | … | body: JSON |
//!
//! No I/O here: see [`super::pipe`].

use std::marker::PhantomData;

use bytes::{Buf, BufMut, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fault::{Failure, Fault, Result};

/// Bytes before the body.
pub const HEADER: usize = 20;
/// Most bytes of a body.
pub const MAX_BODY: usize = 16 << 20;
/// Supervisor and worker must agree on it.
pub const VERSION: u8 = 1;

const MAGIC: &[u8; 2] = b"L8";

fn broken(detail: impl Into<String>) -> Failure {
    Failure::new(Fault::WorkerLink, detail)
}

/// Turns frames of one direction into bytes.
///
/// JSON has no infinities: a frame with a non-finite number is written with `null` in
/// its place and refused by the other end.
pub struct Encoder<T> {
    sequence: u64,
    frame: PhantomData<fn(T)>,
}

impl<T> Default for Encoder<T> {
    fn default() -> Self {
        Self { sequence: 0, frame: PhantomData }
    }
}

impl<T: Serialize> Encoder<T> {
    /// The bytes of the next frame.
    ///
    /// # Errors
    /// [`Fault::WorkerLink`] where the body would exceed [`MAX_BODY`]; the encoder
    /// stays usable.
    pub fn encode(&mut self, frame: &T) -> Result<Vec<u8>> {
        // The header's place, until length and checksum are known.
        let mut bytes = vec![0; HEADER];
        serde_json::to_writer(&mut bytes, frame)
            .map_err(|e| broken(format!("a frame has no JSON form: {e}")))?;
        let (mut header, body) = bytes.split_at_mut(HEADER);
        let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_BODY);
        let Some(length) = length else {
            return Err(broken(format!("a frame of {} bytes exceeds the limit of {MAX_BODY}", body.len())));
        };
        header.put_slice(MAGIC);
        header.put_u8(VERSION);
        header.put_u8(0);
        header.put_u32_le(length);
        header.put_u64_le(self.sequence);
        header.put_u32_le(crc32fast::hash(body));
        self.sequence = self.sequence.wrapping_add(1);
        Ok(bytes)
    }
}

struct Header {
    length: usize,
    checksum: u32,
}

/// Turns bytes of one direction back into frames. After an error the link is lost: the
/// borders between frames are no longer known.
pub struct Decoder<T> {
    buffer: BytesMut,
    sequence: u64,
    frame: PhantomData<fn() -> T>,
}

impl<T> Default for Decoder<T> {
    fn default() -> Self {
        Self { buffer: BytesMut::new(), sequence: 0, frame: PhantomData }
    }
}

impl<T: DeserializeOwned> Decoder<T> {
    /// Where received bytes are appended.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole frame, or `None` until more bytes came.
    ///
    /// # Errors
    /// [`Fault::WorkerLink`]: wrong magic, version, length, sequence, checksum or body.
    /// A wrong header is reported before its body arrives.
    pub fn next_frame(&mut self) -> Result<Option<T>> {
        let Some(header) = self.header()? else { return Ok(None) };
        let whole = HEADER + header.length;
        if self.buffer.len() < whole {
            self.buffer.reserve(whole - self.buffer.len());
            return Ok(None);
        }
        let mut body = self.buffer.split_to(whole);
        body.advance(HEADER);
        let number = self.sequence;
        if crc32fast::hash(&body) != header.checksum {
            return Err(broken(format!("frame {number} is damaged: its checksum does not match")));
        }
        let frame = serde_json::from_slice(&body)
            .map_err(|e| broken(format!("frame {number} is not one of this version: {e}")))?;
        self.sequence = self.sequence.wrapping_add(1);
        Ok(Some(frame))
    }

    /// Checks that the link ended between two frames.
    ///
    /// # Errors
    /// [`Fault::WorkerLink`] where it ended within one.
    pub fn finish(&self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        Err(broken(format!("frame {} ended after {} bytes", self.sequence, self.buffer.len())))
    }

    fn header(&self) -> Result<Option<Header>> {
        let Some(mut fields) = self.buffer.get(..HEADER) else { return Ok(None) };
        let number = self.sequence;
        if !fields.starts_with(MAGIC) {
            return Err(broken(format!("frame {number} does not begin with its mark")));
        }
        fields.advance(MAGIC.len());
        let (version, reserved) = (fields.get_u8(), fields.get_u8());
        if version != VERSION {
            return Err(broken(format!("frame {number} is of version {version}, expected {VERSION}")));
        }
        if reserved != 0 {
            return Err(broken(format!("frame {number} sets the reserved byte to {reserved}")));
        }
        let length = fields.get_u32_le() as usize;
        if length > MAX_BODY {
            return Err(broken(format!("frame {number} claims {length} bytes, the limit is {MAX_BODY}")));
        }
        let sequence = fields.get_u64_le();
        if sequence != number {
            return Err(broken(format!("frame {number} was expected, frame {sequence} came")));
        }
        Ok(Some(Header { length, checksum: fields.get_u32_le() }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::chat::{Delta, Event, Input, Message, Request, RequestId, Role, Token};
    use crate::link::frame::{Command, Report};

    fn token(index: u32, text: &str) -> Report {
        let delta = Delta { content: text.into(), ..Delta::default() };
        let event = Event::Token(Token { index, id: index * 7, delta, logprobs: None });
        Report::Answer { id: RequestId(u64::MAX), event }
    }

    fn decode_all(bytes: &[u8]) -> Result<Vec<Report>> {
        let mut decoder = Decoder::default();
        decoder.buffer().extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = decoder.next_frame()? {
            frames.push(frame);
        }
        decoder.finish()?;
        Ok(frames)
    }

    fn encode_all(frames: &[Report]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        frames.iter().flat_map(|f| encoder.encode(f).unwrap()).collect()
    }

    #[test]
    fn a_request_with_the_largest_seed_survives() {
        let mut request = Request {
            logprobs: Some(20),
            ..Request::new(Input::Chat(vec![Message::text(Role::User, "\u{0} \"ß\" 🦊")]))
        };
        request.sampling.seed = Some(u64::MAX);
        request.sampling.logit_bias = vec![(3, -100.0), (u32::MAX, 0.1)];
        let command =
            Command::Generate { id: RequestId(1), request: Arc::new(request), resume: vec![0, u32::MAX] };
        let bytes = Encoder::default().encode(&command).unwrap();
        let mut decoder = Decoder::<Command>::default();
        decoder.buffer().extend_from_slice(&bytes);
        assert_eq!(decoder.next_frame().unwrap(), Some(command));
        assert_eq!(decoder.next_frame().unwrap(), None);
    }

    #[test]
    fn the_layout_is_as_documented() {
        let mut encoder = Encoder::default();
        encoder.encode(&Command::Stop).unwrap();
        let bytes = encoder.encode(&Command::Stop).unwrap();
        let body = b"\"stop\"";
        assert_eq!(&bytes[..8], b"L8\x01\x00\x06\x00\x00\x00");
        assert_eq!(bytes[8..16], 1u64.to_le_bytes());
        assert_eq!(bytes[16..20], crc32fast::hash(body).to_le_bytes());
        assert_eq!(&bytes[20..], body);
    }

    #[test]
    fn a_repeated_or_missing_frame_is_noticed() {
        let mut encoder = Encoder::default();
        let frames: Vec<Vec<u8>> = (0..3).map(|i| encoder.encode(&token(i, "x")).unwrap()).collect();
        let repeated = [frames[0].clone(), frames[0].clone()].concat();
        let missing = [frames[0].clone(), frames[2].clone()].concat();
        for (bytes, came) in [(repeated, "frame 0 came"), (missing, "frame 2 came")] {
            let failure = decode_all(&bytes).unwrap_err();
            assert_eq!(failure.fault, Fault::WorkerLink);
            assert!(failure.detail.contains(came), "{failure}");
        }
    }

    #[test]
    fn an_oversized_frame_is_refused_from_its_header_and_never_sent() {
        let mut bytes = encode_all(&[token(0, "x")]);
        bytes[4..8].copy_from_slice(&(MAX_BODY as u32 + 1).to_le_bytes());
        let failure = decode_all(&bytes[..HEADER]).unwrap_err();
        assert!(failure.detail.contains("the limit"), "{failure}");

        let mut encoder = Encoder::default();
        encoder.encode(&token(0, &"x".repeat(MAX_BODY))).unwrap_err();
        let after = encoder.encode(&token(0, "y")).unwrap();
        assert_eq!(decode_all(&after).unwrap(), [token(0, "y")], "a refused frame takes no number");
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = encode_all(&[token(0, "x")]);
        bytes[2] = 9;
        assert!(decode_all(&bytes).unwrap_err().detail.contains("version 9, expected 1"));
    }

    proptest! {
        #[test]
        fn frames_survive_any_split(
            texts in proptest::collection::vec(".{0,40}", 1..6),
            cuts in proptest::collection::vec(1usize..50, 1..40),
        ) {
            let frames: Vec<Report> = texts.iter().zip(0..).map(|(t, i)| token(i, t)).collect();
            let bytes = encode_all(&frames);
            let mut decoder = Decoder::<Report>::default();
            let (mut rest, mut got, mut cuts) = (bytes.as_slice(), Vec::new(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (part, more) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                decoder.buffer().extend_from_slice(part);
                rest = more;
                while let Some(frame) = decoder.next_frame().unwrap() {
                    got.push(frame);
                }
            }
            prop_assert_eq!(got, frames);
            prop_assert!(decoder.finish().is_ok());
        }

        #[test]
        fn a_flipped_bit_is_noticed(at in 0usize..10_000, bit in 0u32..8) {
            let mut bytes = encode_all(&[token(0, "Hello"), token(1, " world")]);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(decode_all(&bytes).unwrap_err().fault, Fault::WorkerLink);
        }

        #[test]
        fn a_truncated_stream_is_noticed(cut in 1usize..10_000) {
            let one = encode_all(&[token(0, "Hello")]).len();
            let bytes = encode_all(&[token(0, "Hello"), token(1, " world")]);
            let kept = cut % bytes.len();
            let whole = kept == 0 || kept == one;
            prop_assert_eq!(decode_all(&bytes[..kept]).is_ok(), whole);
        }

        #[test]
        fn noise_is_refused_without_panic(noise in proptest::collection::vec(any::<u8>(), 20..200)) {
            prop_assume!(!noise.starts_with(MAGIC));
            prop_assert!(decode_all(&noise).is_err());
        }

        #[test]
        fn a_valid_envelope_around_noise_is_refused(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assume!(serde_json::from_slice::<Report>(&noise).is_err());
            let mut bytes = Vec::new();
            bytes.put_slice(b"L8\x01\x00");
            bytes.put_u32_le(noise.len() as u32);
            bytes.put_u64_le(0);
            bytes.put_u32_le(crc32fast::hash(&noise));
            bytes.put_slice(&noise);
            prop_assert_eq!(decode_all(&bytes).unwrap_err().fault, Fault::WorkerLink);
        }
    }
}
