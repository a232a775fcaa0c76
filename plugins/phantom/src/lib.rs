//! A procedural radiograph phantom with known latent factors, as a Shiftlens plugin.
