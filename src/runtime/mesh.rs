//! The queues between cores: one ring of parcels for every ordered pair of cores, itself included.
//!
//! Bounded in parcels. A full ring refuses; the sender keeps its batch, and is woken when the receiver
//! has made room. Order holds per pair. A core that has ended swallows what is sent to it: nobody will
//! ever ask.

use super::{MeshOut, bell::Bell, doorbell::RoomWanted};
use rtrb::{Consumer, Producer, PushError, RingBuffer};
use std::{
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

/// What travels between two cores.
#[derive(Debug)]
pub(super) enum Parcel<M> {
    Batch(Vec<M>),
    Socket(FreshSocket),
}

/// An accepted connection on which no operation has been started.
#[derive(Debug)]
pub(super) struct FreshSocket {
    pub stream: TcpStream,
    pub listener: usize,
    pub peer: SocketAddr,
}

#[derive(Debug)]
struct Outgoing<M> {
    queue: Producer<Parcel<M>>,
    bell: Arc<Bell>,
    wanted: Arc<RoomWanted>,
    /// A send was refused and no room has been seen since.
    blocked: bool,
}

#[derive(Debug)]
struct Incoming<M> {
    queue: Consumer<Parcel<M>>,
    bell: Arc<Bell>,
    wanted: Arc<RoomWanted>,
}

/// One core's ends of all its queues.
#[derive(Debug)]
pub(super) struct Mesh<M> {
    core: usize,
    out: Vec<Outgoing<M>>,
    incoming: Vec<Incoming<M>>,
    /// Emptied batches, to be filled again.
    spare: Vec<Vec<M>>,
}

/// Emptied batches kept per core.
const SPARE_MAX: usize = 16;

/// The ends of all queues, one [`Mesh`] per bell.
pub(super) fn mesh<M>(bells: &[Arc<Bell>], capacity: usize) -> Vec<Mesh<M>> {
    let mut cores: Vec<Mesh<M>> = (0..bells.len())
        .map(|core| Mesh { core, out: Vec::new(), incoming: Vec::new(), spare: Vec::new() })
        .collect();
    for (from, from_bell) in bells.iter().enumerate() {
        for (to, to_bell) in bells.iter().enumerate() {
            let (producer, consumer) = RingBuffer::new(capacity);
            let wanted = Arc::new(RoomWanted::new());
            // `out` is filled in order of receivers, `incoming` in order of senders.
            cores[from].out.push(Outgoing {
                queue: producer,
                bell: to_bell.clone(),
                wanted: wanted.clone(),
                blocked: false,
            });
            cores[to].incoming.push(Incoming { queue: consumer, bell: from_bell.clone(), wanted });
        }
    }
    cores
}

impl<M> Outgoing<M> {
    fn push(&mut self, parcel: Parcel<M>) -> Result<(), Parcel<M>> {
        let refused = match self.queue.push(parcel) {
            Ok(()) => {
                self.sent();
                return Ok(());
            }
            Err(PushError::Full(parcel)) => parcel,
        };
        if self.queue.is_abandoned() {
            return Ok(());
        }
        self.blocked = true;
        self.wanted.set();
        match self.queue.push(refused) {
            Ok(()) => {
                self.sent();
                Ok(())
            }
            Err(PushError::Full(parcel)) => Err(parcel),
        }
    }

    fn sent(&mut self) {
        self.unblock();
        self.bell.ring_if_asleep();
    }

    fn unblock(&mut self) {
        if std::mem::take(&mut self.blocked) {
            self.wanted.clear();
        }
    }

    fn has_room(&self) -> bool {
        !self.queue.is_full() || self.queue.is_abandoned()
    }
}

impl<M> Mesh<M> {
    /// Something arrived, or a queue that refused has room again.
    pub fn has_news(&self) -> bool {
        self.incoming.iter().any(|incoming| !incoming.queue.is_empty())
            || self.out.iter().any(|out| out.blocked && out.has_room())
    }

    /// Takes note of the room that appeared: the turn that follows is the driver's chance to use it.
    pub fn note_room(&mut self) {
        for out in &mut self.out {
            if out.blocked && out.has_room() {
                out.unblock();
            }
        }
    }

    /// Hands over what had arrived by the time of the call, at most what the queues hold.
    pub fn receive(&mut self, mut handle: impl FnMut(usize, Parcel<M>) -> Option<Vec<M>>) {
        for (from, incoming) in self.incoming.iter_mut().enumerate() {
            let count = incoming.queue.slots();
            for _ in 0..count {
                let Ok(parcel) = incoming.queue.pop() else { break };
                if let Some(emptied) = handle(from, parcel)
                    && self.spare.len() < SPARE_MAX
                {
                    self.spare.push(emptied);
                }
            }
            if count > 0 && incoming.wanted.is_set() {
                incoming.bell.ring_if_asleep();
            }
        }
    }

    /// Gives the socket back when there is no room.
    pub fn send_socket(&mut self, to: usize, socket: FreshSocket) -> Option<FreshSocket> {
        let out = self.out.get_mut(to)?;
        match out.push(Parcel::Socket(socket)) {
            Err(Parcel::Socket(socket)) => {
                // The socket stays here, but a batch may wait for the same room: leave the wish.
                Some(socket)
            }
            _ => None,
        }
    }
}

impl<M> MeshOut<M> for Mesh<M> {
    fn cores(&self) -> usize {
        self.out.len()
    }

    fn core(&self) -> usize {
        self.core
    }

    fn send(&mut self, to: usize, batch: &mut Vec<M>) -> bool {
        if batch.is_empty() {
            return true;
        }
        let replacement = self.spare.pop().unwrap_or_default();
        let full = std::mem::replace(batch, replacement);
        match self.out[to].push(Parcel::Batch(full)) {
            Err(Parcel::Batch(refused)) => {
                let spare = std::mem::replace(batch, refused);
                if self.spare.len() < SPARE_MAX {
                    self.spare.push(spare);
                }
                false
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(capacity: usize) -> (Mesh<u32>, Mesh<u32>) {
        let bells: Vec<_> = (0..2).map(|_| Arc::new(Bell::new().expect("a descriptor"))).collect();
        let mut cores = mesh(&bells, capacity).into_iter();
        (cores.next().expect("two"), cores.next().expect("two"))
    }

    fn receive(mesh: &mut Mesh<u32>) -> Vec<(usize, u32)> {
        let mut got = Vec::new();
        mesh.receive(|from, parcel| match parcel {
            Parcel::Batch(mut batch) => {
                got.extend(batch.drain(..).map(|message| (from, message)));
                Some(batch)
            }
            Parcel::Socket(_) => None,
        });
        got
    }

    #[test]
    fn a_full_queue_refuses_and_tells_of_room() {
        let (mut a, mut b) = pair(2);
        assert!(a.send(1, &mut vec![1]) && a.send(1, &mut vec![2, 3]));
        let mut kept = vec![4];
        assert!(!a.send(1, &mut kept));
        assert_eq!((kept.as_slice(), a.has_news()), (&[4][..], false));
        assert!(b.has_news());
        assert_eq!(receive(&mut b), [(0, 1), (0, 2), (0, 3)]);
        assert!(!b.has_news() && a.has_news(), "room is news to the sender");
        a.note_room();
        assert!(!a.has_news(), "but only once");
        assert!(a.send(1, &mut kept) && kept.is_empty());
        assert_eq!(receive(&mut b), [(0, 4)]);
    }

    #[test]
    fn a_core_can_send_to_itself_and_to_the_dead() {
        let (mut a, b) = pair(1);
        assert!(a.send(0, &mut vec![7]) && a.has_news());
        assert_eq!(receive(&mut a), [(0, 7)]);
        drop(b);
        for message in 0..5 {
            assert!(a.send(1, &mut vec![message]), "nobody is left to make room");
        }
    }

    // Whatever is sent and received in whatever order: nothing is lost, doubled or reordered.
    #[test]
    fn keeps_order() {
        arbtest::arbtest(|u| {
            let (mut a, mut b) = pair(u.int_in_range(1..=4)?);
            let (mut pending, mut next, mut got) = (Vec::new(), 0, Vec::new());
            for _ in 0..u.int_in_range(0..=60u32)? {
                if u.arbitrary()? {
                    pending.push(next);
                    next += 1;
                    a.send(1, &mut pending);
                } else {
                    got.extend(receive(&mut b).into_iter().map(|(_, message)| message));
                }
            }
            got.extend(receive(&mut b).into_iter().map(|(_, message)| message));
            got.append(&mut pending);
            assert_eq!(got, (0..next).collect::<Vec<_>>());
            Ok(())
        });
    }
}
