// The OCI distribution specification's conformance suite, v1.1.1. It has no tag of its own, and neither is it in Go's
// database of checksums: go.sum is what vouches for it, and `go run PACKAGE@VERSION` would refuse it. It is a package of
// tests alone, built with `go test -c` (official.ts); so `go mod tidy` must not be run here: it sees nothing to keep.
module geo-registry/test/conformance/official

go 1.24

require github.com/opencontainers/distribution-spec/conformance v0.0.0-20250220192232-583e014d1541

require (
	github.com/asaskevich/govalidator v0.0.0-20230301143203-a9d515a09cc2 // indirect
	github.com/bloodorangeio/reggie v0.6.1 // indirect
	github.com/go-logr/logr v1.2.4 // indirect
	github.com/go-resty/resty/v2 v2.7.0 // indirect
	github.com/go-task/slim-sprig v0.0.0-20230315185526-52ccab3ef572 // indirect
	github.com/google/pprof v0.0.0-20230602150820-91b7bce49751 // indirect
	github.com/google/uuid v1.3.0 // indirect
	github.com/mitchellh/mapstructure v1.5.0 // indirect
	github.com/onsi/ginkgo/v2 v2.11.0 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	golang.org/x/net v0.33.0 // indirect
	golang.org/x/sys v0.28.0 // indirect
	golang.org/x/tools v0.21.1-0.20240508182429-e35e4ccd0d2d // indirect
)
