"""From a photo to prompts: decoding, face detection, attributes, and the text of the prompts."""
