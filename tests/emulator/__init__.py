"""An emulator of Earth Engine's HTTP interface for the unmodified ``ee`` client (earth_engine.md, section 3).

``python -m tests.emulator`` serves it from its own process; tests start it with ``control.emulator``. It reads a
catalogue of scenes (``small``: a few explicit rasters; ``world``: endless made-up imagery), evaluates the
expressions that the client sends on the asked pixel grid, enforces the documented limits with the service's own
wording, and fails on demand.

Known gaps: no overview pyramids, all bands of an image have one type, masks are on or off, and only the
functions in ``functions/`` exist.
"""
