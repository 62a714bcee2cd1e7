# syntax=docker/dockerfile:1
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
ARG REVISION=unknown
# The caches outlive the layer, so the binary is moved out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    LLM_RELAY_EXPORTER_REVISION="$REVISION" cargo build --locked --release --bin llm-relay-exporter \
    && install -D target/release/llm-relay-exporter /out/llm-relay-exporter

FROM debian:12.13-slim
LABEL org.opencontainers.image.title="llm-relay-exporter" \
      org.opencontainers.image.description="Prometheus exporter for self-hosted LLM relays" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /out/llm-relay-exporter /usr/local/bin/llm-relay-exporter
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/llm-relay-exporter/
# An id of nobody's: it needs neither a home nor a name. A volume mounted there begins with the directory's owner and mode.
RUN install -d -m 700 -o 65532 -g 65532 /var/lib/llm-relay-exporter
USER 65532:65532
EXPOSE 9879
ENTRYPOINT ["llm-relay-exporter"]
