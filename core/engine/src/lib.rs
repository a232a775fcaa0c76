//! Manifests, plugin host, directions, latent shift and the run itself.
