# The image of head, workers and jobs. Two targets; docs/kubernetes.md says how to build, check and push them:
#
#   docker build --target cuda --tag rs-embed-serve:TAG .
#   docker build --target cpu --tag rs-embed-serve:TAG-cpu .
#   docker build --target cuda --build-arg WEIGHTS=baked --tag rs-embed-serve:TAG .    # with what is in weights/
#   docker build --target cuda --build-arg PACKAGES=geotessera --tag rs-embed-serve:TAG .    # for the model tessera
#
# It needs BuildKit (the default since Docker 23) or Buildah. CUDA comes with torch's own packages, so both targets
# start from the same slim image and need of a GPU node only its driver.

# Give a digest (python@sha256:...) for a build that can be repeated bit by bit.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm
# none, or baked: copy weights/, laid out <repo>/<file>, to /weights.
ARG WEIGHTS=none

# ------------------------------------------------------------------------------------------------------ system

FROM ${PYTHON_IMAGE} AS system
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# bash and wget: KubeRay's own commands and probes; curl: ours and people's; libexpat1: the GDAL inside rasterio.
# A digest in PYTHON_IMAGE fixes all but these; their security fixes are welcome.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bash ca-certificates curl libexpat1 wget \
    && rm -rf /var/lib/apt/lists/*
ENV VIRTUAL_ENV=/opt/venv
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin

# -------------------------------------------------------------------------------------------- what is installed

FROM system AS installer
ARG UV_VERSION=0.13.9
# An index of your own, for networks that have one.
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
RUN pip install --no-cache-dir "uv==${UV_VERSION}"
# Compiled here, because nothing can be compiled later under a read-only root.
ENV UV_NO_CACHE=1 \
    UV_PYTHON_DOWNLOADS=never \
    UV_COMPILE_BYTECODE=1
WORKDIR /build

# Every package at the version that the tests ran with; nothing else is resolved. PACKAGES are further ones, by name.
FROM installer AS packages-cuda
ARG PACKAGES
COPY requirements/service.txt requirements/dev.txt requirements/
RUN uv venv "$VIRTUAL_ENV" \
    && uv pip install --requirements requirements/service.txt --constraints requirements/dev.txt ${PACKAGES:-} \
    && uv pip check

# torch for CPUs is another build of the same version, in torch's own index, which uv knows by this name. The pins
# only constrain here, so CUDA's packages stay out.
FROM installer AS packages-cpu
ARG UV_TORCH_BACKEND=cpu
ARG PACKAGES
COPY pyproject.toml ./
COPY requirements/dev.txt requirements/
RUN uv venv "$VIRTUAL_ENV" \
    && uv pip install --constraints requirements/dev.txt --requirements pyproject.toml --extra traces ${PACKAGES:-} \
    && uv pip check

# This source tree, in a venv of its own at the same place: laid over the packages it is a layer of a few megabytes,
# and a new release moves no gigabytes.
FROM installer AS service
COPY requirements/dev.txt requirements/
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY rs_embed_core rs_embed_core
COPY serve_app serve_app
RUN uv build --wheel --build-constraints requirements/dev.txt --out-dir wheels \
    && uv venv "$VIRTUAL_ENV" \
    && uv pip install --no-deps wheels/*.whl

# ----------------------------------------------------------------------------------------------------- weights

FROM ${PYTHON_IMAGE} AS weights-none
RUN mkdir /weights

FROM ${PYTHON_IMAGE} AS weights-baked
COPY weights /weights
RUN chmod -R a+rX /weights

# hadolint ignore=DL3006
FROM weights-${WEIGHTS} AS weights

# -------------------------------------------------------------------------------------------------- what is run

FROM system AS runtime
# A login shell (KubeRay's, where ENABLE_LOGIN_SHELL is on) takes PATH from /etc/profile alone.
RUN echo "export PATH=${PATH}" > /etc/profile.d/rs-embed.sh \
    && groupadd --gid 1000 rs-embed \
    && useradd --uid 1000 --gid 1000 --create-home --shell /bin/bash rs-embed \
    && install --directory --owner 1000 --group 1000 /cache
# The root may be read-only: what is written goes to /tmp, /cache, /dev/shm and HOME. Weights come from /weights alone.
ENV HOME=/home/rs-embed \
    HF_HUB_OFFLINE=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    RS_EMBED_CHECKPOINTS__ROOT=/weights \
    RS_EMBED_CHECKPOINTS__OFFLINE=true
WORKDIR /home/rs-embed
# Numbers: a pod with runAsNonRoot is refused where the user is a name.
USER 1000:1000
# No ENTRYPOINT: KubeRay says `ray start` itself, and jobs say `rs-embed export`.
CMD ["rs-embed", "--help"]

FROM runtime AS cpu
COPY --from=weights /weights /weights
COPY --from=packages-cpu /opt/venv /opt/venv
COPY --from=service /opt/venv /opt/venv

FROM runtime AS cuda
# GKE's device plugin mounts the driver there and tells the linker nothing; on other clouds there is no such folder.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64
COPY --from=weights /weights /weights
COPY --from=packages-cuda /opt/venv /opt/venv
COPY --from=service /opt/venv /opt/venv
