# A node in a container. Written with care and never run: nobody has built this image yet.
#
#   docker build -t tussah .
#   docker run -v tussah:/home/tussah/data tussah network join tussah://...
#   docker run -d --name tussah -v tussah:/home/tussah/data -p 4001:4001 -p 4001:4001/udp tussah
#   docker exec tussah tussah status
#
# The local API listens on loopback inside the container, where only `docker exec` reaches it.
# A worker needs a compiler in the first stage: build with --build-arg EXTRAS=worker.

FROM python:3.12-slim AS build
ARG EXTRAS=""
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc g++ cmake libgmp-dev \
 && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/tussah
COPY requirements/3.12.lock /src/requirements.lock
COPY pyproject.toml setup.cfg MANIFEST.in README.md LICENSE /src/
COPY p2p /src/p2p
COPY ledger /src/ledger
COPY inference /src/inference
COPY simulations /src/simulations
COPY scripts /src/scripts
# The lock holds the versions of everything; what is not asked for is not installed.
RUN sed -nE 's/^([A-Za-z0-9_.-]+==[^ ;]+).*/\1/p' /src/requirements.lock > /src/versions \
 && /opt/tussah/bin/pip install --no-cache-dir --constraint /src/versions "/src${EXTRAS:+[$EXTRAS]}"

FROM python:3.12-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgmp10 libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 tussah \
 && install -d -o tussah -g tussah -m 0700 /home/tussah/data
COPY --from=build /opt/tussah /opt/tussah
USER tussah
ENV PATH=/opt/tussah/bin:$PATH TUSSAH_HOME=/home/tussah/data PYTHONUNBUFFERED=1
VOLUME /home/tussah/data
EXPOSE 4001/tcp 4001/udp
STOPSIGNAL SIGTERM
# Running answers have a minute to finish: docker stop --time 75.
HEALTHCHECK --interval=60s --timeout=10s --start-period=60s CMD ["tussah", "status", "--json"]
ENTRYPOINT ["tussah"]
CMD ["up", "--relay", "--set", "node.host=0.0.0.0", "--set", "node.port=4001"]
