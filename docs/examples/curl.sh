#!/bin/sh
# The service with curl: is it up, one embedding as JSON, many as lines, and what a mistake looks like.
# Usage: curl.sh [URL]
set -eu
url=${1:-http://127.0.0.1:8000}

curl --silent --show-error --fail "$url/readyz"
echo

curl --silent --show-error --fail "$url/v1/embeddings" \
    --header 'Content-Type: application/json' --header 'Accept: application/json' --data '{
        "model": "mosaiks",
        "spatial": {"lon": 8.54, "lat": 47.37, "buffer_m": 640},
        "temporal": {"start": "2022-06-01", "end": "2022-09-01"},
        "model_config": {"features": 8}
    }'
echo

curl --silent --show-error --fail --no-buffer "$url/v1/embeddings" \
    --header 'Content-Type: application/json' --header 'Accept: application/x-ndjson' --data '{
        "model": "mosaiks",
        "spatials": [
            {"lon": 8.54, "lat": 47.37, "buffer_m": 640},
            {"minlon": 8.5, "minlat": 47.3, "maxlon": 8.51, "maxlat": 47.31}
        ],
        "temporal": {"year": 2022},
        "model_config": {"features": 8}
    }'

# A mistake is a problem (RFC 9457) that says what would be right.
curl --silent --show-error "$url/v1/embeddings" \
    --header 'Content-Type: application/json' --data '{"model": "mosaik", "spatial": {"lon": 8, "lat": 47, "buffer_m": 640}}'
echo
