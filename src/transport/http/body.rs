//! The body of a request on its way in. It grows with what arrives, never with what was announced.

use super::site::Plan;
use crate::wire::http::{Body, BodyDecoder, BodyError};

#[derive(Debug)]
pub struct Gathering {
    pub plan: Plan,
    pub bytes: Vec<u8>,
    decoder: BodyDecoder,
}

impl Gathering {
    pub fn new(plan: Plan, decoder: BodyDecoder) -> Self {
        Self { plan, bytes: Vec::new(), decoder }
    }

    /// Takes what it can use from `input`: how many bytes, and whether the body is whole.
    pub fn feed(&mut self, input: &[u8]) -> Result<(usize, bool), BodyError> {
        let mut rest = input;
        loop {
            match self.decoder.next(&mut rest)? {
                None => return Ok((input.len() - rest.len(), false)),
                Some(Body::Data(bytes)) => self.bytes.extend_from_slice(bytes),
                Some(Body::End) => return Ok((input.len() - rest.len(), true)),
            }
        }
    }
}
