"""Words to an image: text encoder, noise, sampling loop, guidance, decoder."""
