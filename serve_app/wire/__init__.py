"""What crosses HTTP and the handle: requests, rows, problems. Shared with the client; no Ray, no torch."""
