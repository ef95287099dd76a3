# The release image: one static binary, not root, no shell. The tests in a cluster run the same layout, made by hack/image.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=v1.2.3 --build-arg COMMIT=0123456789ab .
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown COMMIT=unknown TARGETOS TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath \
    -ldflags "-s -w -X github.com/breakglass-gateway/breakglass-gateway/internal/version.Version=$VERSION -X github.com/breakglass-gateway/breakglass-gateway/internal/version.Commit=$COMMIT" \
    -o /out/breakglass ./cmd/breakglass

FROM gcr.io/distroless/static-debian13:nonroot
COPY --from=build /out/breakglass /usr/local/bin/breakglass
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/breakglass"]
