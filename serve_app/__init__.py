"""Where things run: the Ray Serve application around ``rs_embed_core``. No model code, no numerics."""
