# Image of the ROCm job: AMD's container with MIGraphX from AMD's packages, and the suite's requirements.
# `.ci/with-rocm` builds it. Stage `judge` has one ROCm, stage `ab` also that of the base branch, for --ab.
ARG ROCM
ARG BASE_ROCM=${ROCM}

FROM rocm/dev-ubuntu-24.04:${ROCM} AS judge
# The image names AMD's package repository of its version. Versions of packages follow from that of the image.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends migraphx python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY requirements_nfnet.txt /opt/
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check -r /opt/requirements_nfnet.txt
ENV PATH=/opt/venv/bin:$PATH
RUN useradd --create-home --uid 1001 judge
USER 1001

FROM rocm/dev-ubuntu-24.04:${BASE_ROCM} AS base
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends migraphx \
    && rm -rf /var/lib/apt/lists/* \
    && ln -s "$(readlink -f /opt/rocm)" /opt/rocm-base

FROM judge AS ab
# Each ROCm has a folder of its own, /opt/rocm-VERSION. The link /opt/rocm leads to the first, /opt/rocm-base to this.
COPY --from=base /opt/ /opt/
