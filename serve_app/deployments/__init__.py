"""What runs where: the router, the encoder replicas and the fetch actors, and how they reach each other."""
