//! Compressed messages of the server, each inflated once however many connections get it.
//!
//! A broadcast is the same bytes for everybody. The last few messages are kept in both forms: whoever gets the same
//! compressed bytes again is given the same message, after every one of those bytes was compared.

use crate::{
    cli::bench::frames::{FRAME_MAX, FrameError},
    wire::deflate::Inflater,
};

/// Messages kept: more than are ever on their way at once, where publishers wait for replies.
const KEPT: usize = 64;

#[derive(Default)]
pub struct Inflate {
    zlib: Inflater,
    /// Compressed and inflated.
    kept: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the last message was found, and which one goes next.
    last: usize,
    oldest: usize,
    /// Messages that had to be inflated.
    #[cfg(test)]
    inflated: usize,
}

impl Inflate {
    /// # Errors
    /// [`FrameError::Compressed`].
    pub fn message(&mut self, payload: &[u8]) -> Result<&[u8], FrameError> {
        self.last = self.find(payload)?;
        Ok(self.kept.get(self.last).map_or(&[], |it| &it.1))
    }

    fn find(&mut self, payload: &[u8]) -> Result<usize, FrameError> {
        let is_it = |it: &(Vec<u8>, Vec<u8>)| it.0 == payload;
        if self.kept.get(self.last).is_some_and(is_it) {
            return Ok(self.last);
        }
        if let Some(found) = self.kept.iter().position(is_it) {
            return Ok(found);
        }
        let message = self.zlib.inflate(payload, FRAME_MAX).map_err(|_| FrameError::Compressed)?.to_vec();
        #[cfg(test)]
        {
            self.inflated += 1;
        }
        if self.kept.len() < KEPT {
            self.kept.push((payload.to_vec(), message));
            return Ok(self.kept.len() - 1);
        }
        let slot = self.oldest;
        self.oldest = (slot + 1) % KEPT;
        self.kept[slot] = (payload.to_vec(), message);
        Ok(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::deflate::{Deflater, Options, Window};

    #[test]
    fn the_same_bytes_are_inflated_once() {
        let (mut deflater, window) = (Deflater::new(Options::default()), Window::Bits15);
        let messages: Vec<Vec<u8>> =
            (0..KEPT + 3).map(|it| format!("{it} ").repeat(40).into_bytes()).collect();
        let compressed: Vec<Vec<u8>> = messages
            .iter()
            .map(|it| deflater.deflate(window, it).expect("it gets shorter").to_vec())
            .collect();
        let mut inflate = Inflate::default();
        // Two readers, the second three messages behind the first.
        for at in 0..messages.len() + 3 {
            for at in [Some(at), at.checked_sub(3)].into_iter().flatten().filter(|at| *at < messages.len()) {
                assert_eq!(inflate.message(&compressed[at]), Ok(&messages[at][..]));
            }
        }
        assert_eq!(inflate.inflated, messages.len());
        assert_eq!(inflate.message(&compressed[0]), Ok(&messages[0][..]), "forgotten, and inflated again");
        assert_eq!(inflate.message(b"\x07nonsense"), Err(FrameError::Compressed));
    }
}
