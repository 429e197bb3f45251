"""One card per model family; each module declares ``CARD``. No torch at import."""
