//! What other threads tell a core, and sockets they hand to it.
//!
//! Bounded in messages: a full inbox gives the message back to the sender, who knows what to do about it.
//! Cold: signals, side threads, tests. A lock per message is nothing there.

use super::bell::Bell;
use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// What comes from another thread.
#[derive(Debug)]
pub(super) enum Mail<F> {
    Message(F),
    Socket(AdoptedSocket),
}

/// A socket that nobody accepted here.
#[derive(Debug)]
pub(super) struct AdoptedSocket {
    pub stream: TcpStream,
    pub peer: SocketAddr,
    /// What its peer says first.
    pub first: Vec<u8>,
}

#[derive(Debug)]
struct Inbox<F> {
    messages: Mutex<VecDeque<Mail<F>>>,
    /// Number of messages, readable without the lock.
    len: AtomicUsize,
    closed: AtomicBool,
    capacity: usize,
}

/// Talks to one core from any thread.
#[derive(Debug)]
pub struct Sender<F> {
    inbox: Arc<Inbox<F>>,
    bell: Arc<Bell>,
}

impl<F> Clone for Sender<F> {
    fn clone(&self) -> Self {
        Self { inbox: self.inbox.clone(), bell: self.bell.clone() }
    }
}

/// The message comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError<F> {
    #[error("the core's inbox is full")]
    Full(F),
    #[error("the core has ended")]
    Closed(F),
}

impl<F> Sender<F> {
    /// Queues `message` and wakes the core if it sleeps. Never blocks beyond the queue's lock.
    ///
    /// # Errors
    /// [`SendError`] when the inbox is full or the core has ended.
    pub fn send(&self, message: F) -> Result<(), SendError<F>> {
        self.post(message, Mail::Message)
    }

    /// Makes a socket a connection of the core, whose driver hears of it by
    /// [`Driver::on_adopt`](super::Driver::on_adopt). `stream` is a connected stream socket of whatever family, with
    /// `peer` at its other end as far as limits and logs are concerned, and `first` is what the peer has said.
    ///
    /// # Errors
    /// [`SendError`] when the inbox is full or the core has ended; the socket is closed then. A core that ends later
    /// closes it as well.
    pub fn adopt(&self, stream: OwnedFd, peer: SocketAddr, first: Vec<u8>) -> Result<(), SendError<()>> {
        let socket = AdoptedSocket { stream: stream.into(), peer, first };
        self.post((), |()| Mail::Socket(socket))
    }

    fn post<T>(&self, what: T, wrap: impl FnOnce(T) -> Mail<F>) -> Result<(), SendError<T>> {
        {
            let mut messages = self.inbox.messages.lock().unwrap_or_else(PoisonError::into_inner);
            if self.inbox.closed.load(Ordering::Relaxed) {
                return Err(SendError::Closed(what));
            }
            if messages.len() >= self.inbox.capacity {
                return Err(SendError::Full(what));
            }
            messages.push_back(wrap(what));
            self.inbox.len.store(messages.len(), Ordering::Release);
        }
        self.bell.ring_if_asleep();
        Ok(())
    }
}

/// The core's end.
#[derive(Debug)]
pub(super) struct Receiver<F>(Arc<Inbox<F>>);

impl<F> Receiver<F> {
    pub fn is_empty(&self) -> bool {
        self.0.len.load(Ordering::Acquire) == 0
    }

    /// Moves everything to the end of `out`.
    pub fn take(&self, out: &mut VecDeque<Mail<F>>) {
        if self.is_empty() {
            return;
        }
        let mut messages = self.0.messages.lock().unwrap_or_else(PoisonError::into_inner);
        out.append(&mut messages);
        self.0.len.store(0, Ordering::Release);
    }
}

impl<F> Drop for Receiver<F> {
    fn drop(&mut self) {
        let mut messages = self.0.messages.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.closed.store(true, Ordering::Relaxed);
        self.0.len.store(0, Ordering::Release);
        messages.clear();
    }
}

pub(super) fn inbox<F>(bell: Arc<Bell>, capacity: usize) -> (Sender<F>, Receiver<F>) {
    let inbox = Arc::new(Inbox {
        messages: Mutex::new(VecDeque::new()),
        len: AtomicUsize::new(0),
        closed: AtomicBool::new(false),
        capacity,
    });
    (Sender { inbox: inbox.clone(), bell }, Receiver(inbox))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_and_closed_give_the_message_back() {
        let bell = Arc::new(Bell::new().expect("a descriptor"));
        let (sender, receiver) = inbox(bell, 2);
        assert_eq!((sender.send(1), sender.send(2)), (Ok(()), Ok(())));
        assert_eq!(sender.send(3), Err(SendError::Full(3)));
        let mut out = VecDeque::new();
        receiver.take(&mut out);
        let out: Vec<_> =
            out.into_iter().map(|mail| if let Mail::Message(it) = mail { it } else { 0 }).collect();
        assert_eq!(out, [1, 2]);
        assert!(receiver.is_empty());
        assert_eq!(sender.send(4), Ok(()));
        drop(receiver);
        assert_eq!(sender.send(5), Err(SendError::Closed(5)));
    }
}
