"""From a request to an image: text encoder, noise, sampling loop, guidance and VAE decoder."""
