"""From a photo and images of faces to a photo of other people: places of faces, what they replace, and blending."""
