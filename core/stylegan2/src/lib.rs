//! StyleGAN2 generator, discriminator and encoder: networks, training, files.
