"""Attackers, who try to find out whose portrait an image is; each gives similarities of images and originals."""
