//! Launchers of the container and microVM tiers: one process a sandbox, between the framed stream and the engine.
