//! Grad-CAM and its family as a Shiftlens plugin.
