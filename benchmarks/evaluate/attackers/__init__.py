"""Attackers, who try to find out whose portrait an image is, or what it tells about the person."""
