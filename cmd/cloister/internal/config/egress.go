package config

import (
	"net/netip"

	"github.com/cloister-health/cloister/fhir/record/egress"
)

// Egress reads the hosts from which inputs of imports are fetched, and the networks in which they may be.
func Egress(hosts, networks []string, plain bool) (*egress.Guard, error) {
	c := egress.Config{Hosts: hosts, Plain: plain}
	for _, text := range networks {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fault("CLOISTER_IMPORT_NETWORKS", "has %q, which is no network: write it like 10.1.0.0/16", text)
		}
		c.Networks = append(c.Networks, p.Masked())
	}
	g, err := egress.New(c)
	if err != nil {
		return nil, fault("CLOISTER_IMPORT_HOSTS", "is wrong: %v", err)
	}
	return g, nil
}
