"""The service: portraits over HTTP, one request at a time or many at once."""
