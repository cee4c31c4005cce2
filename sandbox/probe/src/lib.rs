//! Escape probes: a guest-side program and the observer that judges it, the same in every tier.
