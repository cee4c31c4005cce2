//! The guest image: one recipe for the container image and the microVM's root, kernel and snapshot.
