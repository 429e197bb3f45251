"""Bulk export on Ray Data: many ROIs and models into partitioned GeoParquet; ``EmbedRois`` for other pipelines."""

from serve_app.export.embed_rois import EmbedRois

__all__ = ["EmbedRois"]
