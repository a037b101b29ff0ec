module github.com/cloister-health/cloister

go 1.26.0

require (
	github.com/alecthomas/kong v1.17.0 // flags and environment as one struct
	github.com/boombuler/barcode v1.0.1-0.20190219062509-6c824513bacc // the QR code of a one-time secret; api/account only
	github.com/casbin/casbin/v2 v2.135.0 // the policy engine; authz/pdp only
	github.com/cespare/xxhash/v2 v2.3.0 // 64-bit keys of the search index, ids of the sample clinic
	github.com/cockroachdb/apd/v3 v3.2.3 // decimals of quantities and numbers, exact
	github.com/coder/websocket v1.8.15 // notifications of Subscriptions to clients without an endpoint; api/respond only
	github.com/coreos/go-oidc/v3 v3.21.0 // discovery, key sets and token checks; authz/oidc only
	github.com/fergusstrange/embedded-postgres v1.34.0 // PostgreSQL for dev where none is installed
	github.com/go-jose/go-jose/v4 v4.1.8 // JWS: signatures of consents, tokens of the development issuer and of bench
	github.com/go-webauthn/webauthn v0.18.2 // passkeys; authz/identity only
	github.com/gofhir/fhirpath v1.4.0 // FHIRPath for invariants, patches and custom search parameters; fhir/fhirpath only
	github.com/google/fhir/go v0.7.4 // typed views and the second opinion on validation; fhir/codec only
	github.com/google/go-cmp v0.7.0 // differences in tests
	github.com/hashicorp/vault/api v1.20.0 // the client of Vault, as the line for it below wants it
	github.com/jackc/pgx/v5 v5.12.0 // PostgreSQL
	github.com/johannesboyne/gofakes3 v1.2.0 // an S3-compatible store in the process of a test
	github.com/klauspost/compress v1.20.3 // .zst files of an import
	github.com/labstack/echo/v4 v4.16.0 // the HTTP router
	github.com/minio/minio-go/v7 v7.4.1 // S3-compatible stores; fhir/record/export/s3 only
	github.com/parquet-go/parquet-go v0.32.0 // tables of de-identified releases as Apache Parquet; fhir/view/tabular only
	github.com/pquerna/otp v1.5.0 // one-time codes (TOTP); authz/identity only
	github.com/pressly/goose/v3 v3.28.0 // migrations
	github.com/rogpeppe/go-internal v1.16.0 // testscript: the command line as a user types it
	github.com/schollz/progressbar/v3 v3.19.1 // progress on the terminal
	github.com/tink-crypto/tink-go-hcvault/v2 v2.5.0 // key encryption keys in Vault; fhir/record/envelope only
	github.com/tink-crypto/tink-go/v2 v2.9.0 // envelope encryption of notes; fhir/record/envelope only
	github.com/wneessen/go-mail v0.8.1 // invitations and recovery by e-mail; cmd/cloister/internal/mail only
	github.com/xi2/xz v0.0.0-20171230120015-48954b6210f8 // tests read the published R4 archives
	github.com/zitadel/oidc/v3 v3.45.0 // requests and answers of OAuth 2.0 and OpenID Connect; api/smart only
	go.yaml.in/yaml/v3 v3.0.6 // authorization cases
	golang.org/x/crypto v0.57.0 // argon2id; authz/identity only
	golang.org/x/oauth2 v0.36.0 // codes of identity providers, beside go-oidc, which brings it; authz/oidc only
	golang.org/x/sync v0.23.0 // errgroup
	golang.org/x/term v0.46.0 // whether there is a terminal to show progress on
	golang.org/x/text v0.42.0 // strings without accents in the index
	pgregory.net/rapid v1.3.0 // property tests
)

require (
	bitbucket.org/creachadair/stringset v0.0.9 // indirect
	github.com/andybalholm/brotli v1.2.3 // indirect
	github.com/antlr4-go/antlr/v4 v4.13.1 // indirect
	github.com/bmatcuk/doublestar/v4 v4.9.1 // indirect
	github.com/buger/jsonparser v1.1.1 // indirect
	github.com/casbin/govaluate v1.3.0 // indirect
	github.com/cenkalti/backoff/v4 v4.3.0 // indirect
	github.com/dustin/go-humanize v1.0.1 // indirect
	github.com/fxamacker/cbor/v2 v2.9.4 // indirect
	github.com/go-chi/chi/v5 v5.2.3 // indirect
	github.com/go-logr/logr v1.4.4 // indirect
	github.com/go-logr/stdr v1.2.2 // indirect
	github.com/go-viper/mapstructure/v2 v2.5.0 // indirect
	github.com/go-webauthn/x v0.3.1 // indirect
	github.com/golang-jwt/jwt/v5 v5.3.1 // indirect
	github.com/golang/protobuf v1.5.4 // indirect
	github.com/google/go-tpm v0.9.8 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/gorilla/securecookie v1.1.2 // indirect
	github.com/hashicorp/errwrap v1.1.0 // indirect
	github.com/hashicorp/go-cleanhttp v0.5.2 // indirect
	github.com/hashicorp/go-multierror v1.1.1 // indirect
	github.com/hashicorp/go-retryablehttp v0.7.7 // indirect
	github.com/hashicorp/go-rootcerts v1.0.2 // indirect
	github.com/hashicorp/go-secure-stdlib/parseutil v0.1.6 // indirect
	github.com/hashicorp/go-secure-stdlib/strutil v0.1.2 // indirect
	github.com/hashicorp/go-sockaddr v1.0.2 // indirect
	github.com/hashicorp/hcl v1.0.1-vault-7 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/puddle/v2 v2.2.3 // indirect
	github.com/json-iterator/go v1.1.10 // indirect
	github.com/klauspost/cpuid/v2 v2.4.0 // indirect
	github.com/klauspost/crc32 v1.3.0 // indirect
	github.com/labstack/gommon v0.5.0 // indirect
	github.com/lib/pq v1.10.9 // indirect
	github.com/mattn/go-colorable v0.1.15 // indirect
	github.com/mattn/go-isatty v0.0.24 // indirect
	github.com/mfridman/interpolate v0.0.2 // indirect
	github.com/minio/crc64nvme v1.1.1 // indirect
	github.com/minio/md5-simd v1.1.2 // indirect
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/mitchellh/go-homedir v1.1.0 // indirect
	github.com/mitchellh/mapstructure v1.5.0 // indirect
	github.com/modern-go/concurrent v0.0.0-20180306012644-bacd9c7ef1dd // indirect
	github.com/modern-go/reflect2 v1.0.1 // indirect
	github.com/muhlemmer/gu v0.3.1 // indirect
	github.com/muhlemmer/httpforwarded v0.1.0 // indirect
	github.com/parquet-go/bitpack v1.0.0 // indirect
	github.com/parquet-go/jsonlite v1.0.0 // indirect
	github.com/philhofer/fwd v1.2.0 // indirect
	github.com/pierrec/lz4/v4 v4.1.29 // indirect
	github.com/pkg/errors v0.9.1 // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	github.com/rs/cors v1.11.1 // indirect
	github.com/rs/xid v1.6.0 // indirect
	github.com/ryanuber/go-glob v1.0.0 // indirect
	github.com/ryszard/goskiplist v0.0.0-20150312221310-2dfbae5fcf46 // indirect
	github.com/serenize/snaker v0.0.0-20201027110005-a7ad2135616e // indirect
	github.com/sethvargo/go-retry v0.4.0 // indirect
	github.com/shopspring/decimal v1.4.0 // indirect
	github.com/sirupsen/logrus v1.10.2 // indirect
	github.com/tinylib/msgp v1.6.4 // indirect
	github.com/twpayne/go-geom v1.6.1 // indirect
	github.com/valyala/bytebufferpool v1.0.0 // indirect
	github.com/valyala/fasttemplate v1.2.2 // indirect
	github.com/x448/float16 v0.8.4 // indirect
	github.com/zeebo/xxh3 v1.1.0 // indirect
	github.com/zitadel/logging v0.6.2 // indirect
	github.com/zitadel/schema v1.3.1 // indirect
	go.opentelemetry.io/auto/sdk v1.2.1 // indirect
	go.opentelemetry.io/otel v1.46.0 // indirect
	go.opentelemetry.io/otel/metric v1.46.0 // indirect
	go.opentelemetry.io/otel/trace v1.46.0 // indirect
	go.shabbyrobe.org/gocovmerge v0.0.0-20230507111327-fa4f82cfbf4d // indirect
	go.uber.org/multierr v1.11.0 // indirect
	golang.org/x/exp v0.0.0-20260824195058-e88cd73687aa // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/time v0.15.0 // indirect
	golang.org/x/tools v0.50.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
	gopkg.in/ini.v1 v1.67.3 // indirect
)
