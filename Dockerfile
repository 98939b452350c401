# The steps of the README in a container: `make setup`, by a user who is not root. Two targets, cpu and cuda:
#   docker build --target cpu --build-arg UID=$(id -u) -t apo-soup:cpu .
#   docker run --rm -it -v "$PWD:/work" apo-soup:cpu apo-soup run tiny --launch cpu.yaml
#   docker build --target cuda --build-arg UID=$(id -u) -t apo-soup:cuda .
#   docker run --rm -it --gpus all --shm-size 8g -v "$PWD:/work" apo-soup:cuda apo-soup run mine --launch ddp.yaml
# Runs, caches and downloads lie in /work, which is yours. Packages are those of constraints.txt; the base is named by its
# tag, for its digest was not known where this was written: to pin it, write python:TAG@sha256:... behind FROM.
FROM python:3.11-slim-bookworm AS source
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*
# The number of the user who runs it, so that what it writes below /work is theirs.
ARG UID=1000
RUN useradd --uid "$UID" --create-home soup && install -d -o soup /work
ENV PATH=/home/soup/apo-soup/.venv/bin:$PATH HF_HOME=/work/.cache/huggingface XDG_CACHE_HOME=/work/.cache

FROM source AS cpu
USER soup
WORKDIR /home/soup/apo-soup
COPY --chown=soup . .
# The index of PyPI has the CUDA build; this one has the build without, a fifth of its size.
RUN PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu PIP_NO_CACHE_DIR=1 make setup
WORKDIR /work
CMD ["apo-soup", "--help"]

# torch brings CUDA; the driver is the host's (NVIDIA Container Toolkit). Triton compiles with gcc while it runs.
FROM source AS cuda
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
USER soup
WORKDIR /home/soup/apo-soup
COPY --chown=soup . .
RUN PIP_NO_CACHE_DIR=1 make setup
WORKDIR /work
CMD ["apo-soup", "--help"]
