//! What the process may not have.
