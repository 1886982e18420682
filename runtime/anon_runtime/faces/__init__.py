"""A photo to words: decoding, detection, attributes, prompts."""
