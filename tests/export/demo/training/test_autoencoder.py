import numpy as np
import torch

from anon_export.demo.generator import DEMO, make_parts
from anon_export.demo.training.autoencoder import encode, standardise
from anon_export.demo.training.data import Jitter, Photos, vary

STILL = Jitter(shift=0, scale=0, turn=0, light=0)


def test_standardised_latents_decode_to_the_same_images(photos: Photos) -> None:
    vae = make_parts(DEMO).vae.eval()
    images = vary(photos.pixels[:4], 96, STILL, np.random.default_rng(0))
    with torch.no_grad():
        before = vae.decode(vae.encode(images).latent_dist.mean).sample
        noise = vae.encode(images).latent_dist.std / encode(vae, images).std(dim=(0, 2, 3), keepdim=True)
        standardise(vae, encode(vae, images))
        after = vae.encode(images).latent_dist
        torch.testing.assert_close(vae.decode(after.mean).sample, before, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(after.std, noise, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(after.mean.mean(dim=(0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(after.mean.std(dim=(0, 2, 3)), torch.ones(4), rtol=1e-3, atol=1e-4)
