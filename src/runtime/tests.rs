//! The runtime as a whole, over loopback, on both backends.

mod close;
mod echo;
mod harness;
mod limits;
mod mesh;
mod slow;
mod wake;
