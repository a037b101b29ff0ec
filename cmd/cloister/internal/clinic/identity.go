package clinic

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"github.com/cespare/xxhash/v2"

	"github.com/cloister-health/cloister/fhir"
)

// identify derives the logical id of a resource: a UUID of version 8 (RFC
// 9562, 5.8), so that ids are stable between runs and carry no order.
func identify(seed uint64, practice string, t fhir.ResourceType, key string) fhir.ID {
	buf := make([]byte, 0, 128)
	buf = binary.BigEndian.AppendUint64(buf, seed)
	buf = append(buf, practice...)
	buf = append(buf, '/')
	buf = append(buf, t...)
	buf = append(buf, '/')
	buf = append(buf, key...)
	sum := sha256.Sum256(buf)
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	var out [36]byte
	hex.Encode(out[0:8], sum[0:4])
	out[8] = '-'
	hex.Encode(out[9:13], sum[4:6])
	out[13] = '-'
	hex.Encode(out[14:18], sum[6:8])
	out[18] = '-'
	hex.Encode(out[19:23], sum[8:10])
	out[23] = '-'
	hex.Encode(out[24:36], sum[10:16])
	return fhir.ID(out[:])
}

// dice is the stream of chance for one purpose. Each patient has streams of
// their own, so that one patient's chart does not depend on how many others there are.
func (s *site) dice(key string) *rand.Rand {
	h := xxhash.Sum64String(s.Slug + "/" + key)
	return rand.New(rand.NewPCG(s.Seed, h)) //nolint:gosec // made-up data must repeat; nothing secret comes from here
}
